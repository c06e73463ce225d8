import type { Clock } from '../../shared/runtime/clock.ts';
import type { Log } from '../../shared/runtime/log.ts';
import type { Directory } from '../directory/directory.ts';
import { DISTANCES, type Distance, type FoundService, type Member } from '../directory/service-index.ts';
import type { SpiffeId } from '../../shared/spiffe/spiffe-id.ts';
import { Ejection } from './ejection.ts';

/** What became of a connection to a member: `untrusted` is one where somebody else answered, or who could not prove who he is. */
export type MemberFailure = 'unreachable' | 'untrusted' | 'refused';

export interface MembersObserver {
  /** A member is passed over from now on. */
  memberEjected(why: MemberFailure): void;
  /** A connection to a service was taken by a member at that distance. */
  memberTaken(distance: Distance): void;
}

export interface MembersOptions {
  readonly directory: Pick<Directory, 'services' | 'watch'>;
  readonly clock: Clock;
  /** From 0 to 1. */
  readonly random: () => number;
  readonly log: Log;
  readonly observer: MembersObserver;
}

/** A member as it stands, for people. */
export interface MemberStatus extends Member {
  /** Connections of this host that it carries now; of a member on this host itself they are not counted. */
  readonly connections: number;
  /** How long it is still passed over; 0: it is not. */
  readonly ejectedMs: number;
  /** What failed last; absent once a connection came about after it. */
  readonly lastFailure?: string;
}

/** A service as it stands, for people. */
export interface ServiceStatus {
  readonly name: string;
  readonly spiffeId: SpiffeId;
  readonly members: readonly MemberStatus[];
}

interface Standing {
  connections: number;
  readonly ejection: Ejection;
}

/**
 * Which member of a service takes a connection: the nearest that are well; of several at the same distance two are drawn and the one with fewer connections of
 * this host is taken. Members that failed are passed over for a while. Where all are, nobody is: they are tried, whose time ends first before the others.
 */
export class Members {
  readonly #options: MembersOptions;
  readonly #standings = new Map<string, Standing>();
  readonly #unwatch: () => void;

  constructor(options: MembersOptions) {
    this.#options = options;
    this.#unwatch = options.directory.watch(() => this.#forgetFormer());
  }

  /** Follows no more changes. */
  stop(): void {
    this.#unwatch();
  }

  /** The best of those that were not tried; undefined when there is no other. */
  pick({ members, spiffeId }: FoundService, tried: ReadonlySet<Member>): Member | undefined {
    const left = members.filter((member) => !tried.has(member));
    const isEjected = (member: Member): boolean => this.#remainingMs(spiffeId, member) > 0;
    for (const distance of DISTANCES) {
      const near = left.filter((member) => member.distance === distance && !isEjected(member));
      if (near.length > 0) return this.#pickOfEqual(spiffeId, near);
    }
    return left.toSorted((a, b) => this.#remainingMs(spiffeId, a) - this.#remainingMs(spiffeId, b))[0];
  }

  /** It carries a connection more; the returned function says that it does no longer. */
  taken({ spiffeId }: FoundService, member: Member): () => void {
    const standing = this.#standingOf(spiffeId, member);
    standing.connections += 1;
    standing.ejection.succeeded();
    this.#options.observer.memberTaken(member.distance);
    return () => {
      standing.connections -= 1;
    };
  }

  /** It answered, whatever it said: it is well. */
  answered({ spiffeId }: FoundService, member: Member): void {
    this.#standings.get(keyOf(spiffeId, member))?.ejection.succeeded();
  }

  /** A connection to it did not come about, for a reason that is its own and not the caller's. */
  failed(
    { spiffeId, name }: FoundService,
    member: Member,
    { failure, message }: { readonly failure: MemberFailure; readonly message: string },
  ): void {
    const { log, observer } = this.#options;
    const { ejection } = this.#standingOf(spiffeId, member);
    if (!ejection.failed(message, { isGrave: failure === 'untrusted' })) return;
    observer.memberEjected(failure);
    const { address, port } = member;
    const seconds = Math.round(ejection.remainingMs / 1000);
    log.warn('service_member_ejected', { service: name, address, port, seconds, message });
  }

  /** How all services and their members stand. */
  status(): readonly ServiceStatus[] {
    return this.#options.directory.services().map(({ name, spiffeId, members }) => ({
      name,
      spiffeId,
      members: members.map((member) => this.#statusOf(spiffeId, member)),
    }));
  }

  #statusOf(spiffeId: SpiffeId, member: Member): MemberStatus {
    const standing = this.#standings.get(keyOf(spiffeId, member));
    const lastFailure = standing?.ejection.lastFailure;
    return {
      ...member,
      connections: standing?.connections ?? 0,
      ejectedMs: this.#remainingMs(spiffeId, member),
      ...(lastFailure === undefined ? {} : { lastFailure }),
    };
  }

  /** Those that are members of nothing any more are not to be kept for ever. */
  #forgetFormer(): void {
    const services = this.#options.directory.services();
    const known = new Set(
      services.flatMap(({ spiffeId, members }) => members.map((member) => keyOf(spiffeId, member))),
    );
    for (const key of Array.from(this.#standings.keys())) if (!known.has(key)) this.#standings.delete(key);
  }

  #pickOfEqual(spiffeId: string, near: readonly Member[]): Member | undefined {
    const first = near[this.#draw(near.length)];
    if (first === undefined || near.length === 1) return first;
    const others = near.filter((member) => member !== first);
    const second = others[this.#draw(others.length)] ?? first;
    const load = (member: Member): number => this.#standings.get(keyOf(spiffeId, member))?.connections ?? 0;
    return load(second) < load(first) ? second : first;
  }

  #draw(count: number): number {
    return Math.min(Math.floor(this.#options.random() * count), count - 1);
  }

  #remainingMs(spiffeId: string, member: Member): number {
    return this.#standings.get(keyOf(spiffeId, member))?.ejection.remainingMs ?? 0;
  }

  #standingOf(spiffeId: string, member: Member): Standing {
    const key = keyOf(spiffeId, member);
    const { clock, random } = this.#options;
    const standing = this.#standings.get(key) ?? { connections: 0, ejection: new Ejection(clock, random) };
    this.#standings.set(key, standing);
    return standing;
  }
}

function keyOf(spiffeId: string, { address, port }: Member): string {
  return `${spiffeId} ${address} ${port}`;
}

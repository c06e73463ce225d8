import { isIPv4 } from 'node:net';
import { encodeIpAddress } from '../../shared/runtime/ip-address.ts';
import type { InNamespace } from '../native/network-namespace.ts';
import { changeElements, flushSets, type Unchanged } from '../native/nftables-elements.ts';
import type { ElementChange } from '../native/nftables-elements-message.ts';
import type { SocketAddress } from '../native/socket-address.ts';
import type { FlowKey } from './datagram-gate.ts';
import { NFT_TABLE_NAME } from './nft-rules.ts';
import type { UDP_FORWARD_SETS, UDP_SETS } from './udp-rules.ts';

/** A member of a set, by its key as the kernel has it. */
export type Member = Pick<ElementChange, 'set' | 'key'>;

/** How long what the agent let pass outlives it, in milliseconds. */
export const LEASE_MS = 4000;
/** In one transaction: some 30 KB for the kernel. */
const MAX_FLOWS_AT_ONCE = 64;

/** What a flow was in sets, and what it is to be. */
export interface Replacement {
  readonly was: readonly Member[];
  readonly now: readonly Member[];
}

/** Sets of the capture rules of one network namespace, of which each member ends after `LEASE_MS`. */
export class FlowSets {
  readonly #names: readonly string[];
  readonly #where: InNamespace;

  constructor(sets: typeof UDP_SETS | typeof UDP_FORWARD_SETS, where: InNamespace = {}) {
    this.#names = [...Object.values(sets.flows), ...Object.values(sets.answers)];
    this.#where = where;
  }

  /** Has flows be members for `LEASE_MS` from now; what is one before and after is one at every moment. Throws as `changeElements`; then some may be members. */
  replace(replacements: readonly Replacement[]): void {
    for (const some of inParts(replacements, MAX_FLOWS_AT_ONCE)) {
      const was = onceEach(some.flatMap((each) => each.was));
      const now = onceEach(some.flatMap((each) => each.now));
      // An element that is there keeps its time: it is taken out and put in again.
      if (this.#change([...was.map(removal), ...now.map(addition)]) === undefined) continue;
      this.#replaceEach(was, now);
    }
  }

  /** Where some have ended, or were there already, or the rules were loaded anew. */
  #replaceEach(was: readonly Member[], now: readonly Member[]): void {
    const kept = new Set(now.map(nameOf));
    this.remove(was.filter((member) => !kept.has(nameOf(member))));
    if (this.#change(now.map(addition)) === undefined) return;
    for (const member of now)
      if (this.#change([removal(member), addition(member)]) !== undefined) this.#change([addition(member)]);
  }

  /** At once; who is none is no error. Throws as `replace`. */
  remove(members: readonly Member[]): void {
    for (const member of members) {
      try {
        this.#change([removal(member)]);
      } catch {
        // With none left, none is left too many, and those that may pass are asked about again.
        flushSets(NFT_TABLE_NAME, [member.set], this.#where);
      }
    }
  }

  /** Throws as `flushSets`, where the rules are not there yet among others. */
  flush(): void {
    flushSets(NFT_TABLE_NAME, this.#names, this.#where);
  }

  #change(changes: readonly ElementChange[]): Unchanged | undefined {
    return changeElements(NFT_TABLE_NAME, changes, this.#where);
  }
}

/** What a flow is in `UDP_SETS`. Keys as the kernel has them: numbers of its own in its own byte order, ports padded to 4 bytes. */
export function membersOf(sets: typeof UDP_SETS, flow: FlowKey): readonly Member[] {
  const family = familyOf(flow);
  const addresses = encodeEnds(flow);
  return [
    { set: sets.flows[family], key: Buffer.concat([encodeNumber(flow.uid), addresses]) },
    { set: sets.answers[family], key: addresses },
  ];
}

/** What a flow is in `UDP_FORWARD_SETS`, by an interface. */
export function forwardsOf(
  sets: typeof UDP_FORWARD_SETS,
  flow: FlowKey,
  interfaceIndex: number,
): readonly Member[] {
  const family = familyOf(flow);
  const key = Buffer.concat([encodeNumber(interfaceIndex), encodeEnds(flow)]);
  return [
    { set: sets.flows[family], key },
    { set: sets.answers[family], key },
  ];
}

function addition(member: Member): ElementChange {
  return { kind: 'add', timeoutMs: LEASE_MS, ...member };
}

function removal(member: Member): ElementChange {
  return { kind: 'remove', ...member };
}

function nameOf({ set, key }: Member): string {
  return `${set} ${Buffer.from(key).toString('hex')}`;
}

/** Two users' flows between the same ends have one answer. */
function onceEach(members: readonly Member[]): readonly Member[] {
  return [...new Map(members.map((member) => [nameOf(member), member])).values()];
}

function familyOf({ source }: FlowKey): 'ip' | 'ip6' {
  return isIPv4(source.address) ? 'ip' : 'ip6';
}

function encodeEnds({ source, destination }: FlowKey): Buffer {
  return Buffer.concat([encodeEnd(source), encodeEnd(destination)]);
}

function encodeEnd({ address, port }: SocketAddress): Buffer {
  const padded = Buffer.alloc(4);
  padded.writeUInt16BE(port, 0);
  return Buffer.concat([encodeIpAddress(address), padded]);
}

function encodeNumber(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value, 0);
  return bytes;
}

function inParts<T>(all: readonly T[], most: number): readonly (readonly T[])[] {
  return Array.from({ length: Math.ceil(all.length / most) }, (_, part) =>
    all.slice(part * most, (part + 1) * most),
  );
}

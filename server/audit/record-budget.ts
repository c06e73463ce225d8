import { PicketError } from '../../shared/errors/errors.ts';
import type { Clock } from '../../shared/runtime/clock.ts';
import type { Log } from '../../shared/runtime/log.ts';
import type { SpiffeId } from '../../shared/spiffe/spiffe-id.ts';
import type { CheckedRecord } from './audit-chain.ts';

/** What is counted by itself: what was denied, and everything. */
export type RecordKind = 'denials' | 'records';

/** How many of each kind one host may have stored each second; undefined: as many as there are. A record counts once for each KiB that it begins. */
export type RecordRates = Readonly<Record<RecordKind, number | undefined>>;

export interface RecordBudgetOptions {
  readonly rates: RecordRates;
  readonly clock: Clock;
  readonly log: Log;
}

/** A host whose records are held back. */
export interface HeldBackHost {
  readonly nodeId: SpiffeId;
  readonly why: RecordKind;
}

const KINDS = ['denials', 'records'] as const;
/** What a host did not use of so many seconds it may use at once. */
const BURST_SECONDS = 60;
/** A host that may go on, and was not refused again for so long, is held back no more. */
const LET_GO_MS = 60_000;
const KIB = 1024;
/** Of so few hosts none is forgotten. */
const FEW_HOSTS = 1024;

interface Limit {
  readonly why: RecordKind;
  readonly perSecond: number;
  readonly burst: number;
}

interface Account {
  /** What may be used; below zero it is owed. */
  readonly left: Record<RecordKind, number>;
  atMs: number;
  heldBackUntilMs: number;
  why: RecordKind;
}

/**
 * How much of the database the records of each host may take. What is allowed is the host's own traffic, but denials everybody can bring about who reaches it, as many as he likes. A batch is stored whole if
 * nothing is owed, and what it is too large by is owed then: the host waits, whose spool keeps everything. Records of a host stand in a chain, so that what is allowed waits behind what was denied before it. Each
 * server has a budget of its own.
 */
export class RecordBudget {
  readonly #clock: Clock;
  readonly #log: Log;
  readonly #limits: readonly Limit[];
  readonly #accounts = new Map<SpiffeId, Account>();
  readonly #refused: Record<RecordKind, number> = { denials: 0, records: 0 };
  #forgetAt = FEW_HOSTS;

  constructor(options: RecordBudgetOptions) {
    const { rates, clock, log } = options;
    this.#clock = clock;
    this.#log = log;
    this.#limits = KINDS.flatMap((why) => {
      const perSecond = rates[why];
      return perSecond === undefined ? [] : [{ why, perSecond, burst: perSecond * BURST_SECONDS }];
    });
  }

  /** Throws `resource_exhausted`, reason `audit_held_back`, while a host owes something; `details.retry_after_ms` says until when. */
  requireRoom(nodeId: SpiffeId): void {
    const account = this.#accounts.get(nodeId);
    if (account === undefined) return;
    this.#fill(account);
    const owed = this.#limits
      .map((limit) => ({ ...limit, ms: owedMs(account, limit) }))
      .toSorted((one, other) => other.ms - one.ms)[0];
    if (owed === undefined || owed.ms === 0) return;
    this.#holdBack(nodeId, account, owed);
    const { why, perSecond, ms } = owed;
    throw new PicketError(
      'resource_exhausted',
      'audit_held_back',
      `More ${why} of this host than ${perSecond} a second (audit.${why}_per_second)`,
      { details: { retry_after_ms: ms } },
    );
  }

  /** Counts what was stored of a host. */
  charge(nodeId: SpiffeId, records: readonly CheckedRecord[]): void {
    if (records.length === 0) return;
    const account = this.#account(nodeId);
    this.#fill(account);
    for (const { text, record } of records) {
      const weight = Math.ceil(Buffer.byteLength(text) / KIB);
      account.left.records -= weight;
      if (record.decision === 'deny') account.left.denials -= weight;
    }
  }

  /** The hosts that are held back now. */
  get heldBack(): readonly HeldBackHost[] {
    const nowMs = this.#clock.monotonicMs();
    return [...this.#accounts]
      .filter(([, { heldBackUntilMs }]) => heldBackUntilMs > nowMs)
      .map(([nodeId, { why }]) => ({ nodeId, why }));
  }

  /** How many batches were refused since start. */
  get refused(): Readonly<Record<RecordKind, number>> {
    return this.#refused;
  }

  #holdBack(nodeId: SpiffeId, account: Account, owed: Limit & { readonly ms: number }): void {
    const { why, perSecond, ms } = owed;
    const nowMs = this.#clock.monotonicMs();
    this.#refused[why] += 1;
    if (account.heldBackUntilMs <= nowMs)
      this.#log.warn('audit_held_back', { node: nodeId, why, per_second: perSecond });
    account.why = why;
    account.heldBackUntilMs = nowMs + ms + LET_GO_MS;
  }

  #account(nodeId: SpiffeId): Account {
    const known = this.#accounts.get(nodeId);
    if (known !== undefined) return known;
    if (this.#accounts.size >= this.#forgetAt) this.#forgetIdle();
    const atMs = this.#clock.monotonicMs();
    const left = { denials: 0, records: 0 };
    for (const { why, burst } of this.#limits) left[why] = burst;
    const account: Account = { left, atMs, heldBackUntilMs: -Infinity, why: 'denials' };
    this.#accounts.set(nodeId, account);
    return account;
  }

  /** Forgets those that a newcomer would be like. */
  #forgetIdle(): void {
    const nowMs = this.#clock.monotonicMs();
    for (const [nodeId, account] of this.#accounts) {
      this.#fill(account);
      const isFull = this.#limits.every(({ why, burst }) => account.left[why] >= burst);
      if (isFull && account.heldBackUntilMs <= nowMs) this.#accounts.delete(nodeId);
    }
    this.#forgetAt = Math.max(FEW_HOSTS, this.#accounts.size * 2);
  }

  #fill(account: Account): void {
    const nowMs = this.#clock.monotonicMs();
    const seconds = (nowMs - account.atMs) / 1000;
    account.atMs = nowMs;
    for (const { why, perSecond, burst } of this.#limits)
      account.left[why] = Math.min(burst, account.left[why] + seconds * perSecond);
  }
}

function owedMs({ left }: Account, { why, perSecond }: Limit): number {
  return left[why] >= 0 ? 0 : Math.ceil((-left[why] / perSecond) * 1000);
}

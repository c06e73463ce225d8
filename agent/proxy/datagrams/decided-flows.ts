import { toPicketError } from '../../../shared/errors/errors.ts';
import type { Clock } from '../../../shared/runtime/clock.ts';
import type { CrowdReport } from '../../../shared/runtime/crowd-report.ts';
import type { Log } from '../../../shared/runtime/log.ts';
import type { AskedDatagram, DatagramGate, FlowKey } from '../../capture/datagram-gate.ts';
import type { UdpSocket } from '../../native/sock-diag-message.ts';
import type { Refusal } from '../judge/judge.ts';
import type { UserParties } from '../../subordinate-users/subordinate-users.ts';
import type { FairShare } from '../connections/fair-share.ts';
import { partyOfUser } from '../connections/user-place.ts';
import type { FairPace } from './fair-pace.ts';
import { FlowJudge, type FlowJudgeOptions } from './flow-judge.ts';
import { encounterOfFlow, nameOfFlow, type Flow } from './flow.ts';
import { FlowTable } from './flow-table.ts';
import { GateOpening } from './gate-opening.ts';
import { Remembered } from './remembered.ts';
import { WaitingDatagrams, type WaitingRoom } from './waiting-datagrams.ts';

/** What could not be done with a datagram, or with a flow. */
export type DatagramFailure = 'not_decided' | 'not_sent' | 'not_looked_at' | 'not_prolonged' | 'not_ended';

export interface DecidedFlowsOptions extends FlowJudgeOptions {
  readonly gate: DatagramGate;
  readonly userParties: UserParties;
  /** Of the flows that may pass at once. */
  readonly share: FairShare;
  /** At which datagrams are heard. */
  readonly pace: FairPace;
  /** What is kept of datagrams and denials. */
  readonly room: FlowRoom;
  /** Where it is told what failed. Who sends can have a hand in that, and as often as he sends. */
  readonly failures: CrowdReport<DatagramFailure>;
  readonly clock: Clock;
  readonly log: Log;
}

/** What is kept of the datagrams of a gate. */
export interface FlowRoom extends WaitingRoom {
  /** Denials that are remembered, so that nobody decides on them again at once. */
  readonly maxDenials: number;
}

/** How the flows of a gate stand. */
export interface FlowStatus {
  /** Whether datagrams are heard of and decided on; where not, none passes. */
  readonly isHearing: boolean;
  readonly flows: number;
  /** Datagrams that were dropped: of flows that were denied, and for want of room or time. */
  readonly denied: number;
  readonly lost: number;
}

/** So many sockets of others are gone through in the time that is counted for one datagram. */
const PASSED_IN_THE_TIME_OF_ONE = 512;
/** For so long a flow that was denied is not looked at again; then its next datagram is. */
const DENIED_MS = 2000;
/** For so long the same denial is not written down again, whatever ports it comes from. */
const RECORDED_MS = 10_000;
/** How long flows are judged when something has changed, before others have their turn. */
const RECONSIDER_MS = 20;
/** All flows are looked at once in so many turns, which take a second. */
const TURNS = 8;
const TURN_MS = 125;

/**
 * The UDP of one gate out of the mesh, decided flow by flow by the same rule as connections: the first datagram of a flow waits, as a copy of it that the gate gave, until it is known whose socket it comes from and what the
 * policy says; then it goes on, and what follows passes the gate by itself. A flow ends with its socket, within about a second, with its verdict, at once, or with the agent.
 */
export class DecidedFlows {
  readonly #options: DecidedFlowsOptions;
  readonly #judge: FlowJudge;
  readonly #table: FlowTable;
  readonly #waiting: WaitingDatagrams;
  readonly #denied: Remembered;
  readonly #recorded: Remembered;
  readonly #opening: GateOpening;
  #deniedCount = 0;
  #lostCount = 0;
  #isStopped = false;
  /** Undefined while there is nothing to look at. */
  #cancelTurn: (() => void) | undefined;

  constructor(options: DecidedFlowsOptions) {
    const { room, clock, gate, log } = options;
    this.#options = options;
    this.#judge = new FlowJudge(options);
    this.#table = new FlowTable({ ...options, onNotEnded: (error) => this.#note('not_ended', error) });
    const { maxDenials: max } = room;
    this.#waiting = new WaitingDatagrams(room);
    this.#denied = new Remembered(clock, { forMs: DENIED_MS, max });
    this.#recorded = new Remembered(clock, { forMs: RECORDED_MS, max });
    this.#opening = new GateOpening({
      open: async (onEnd) =>
        await gate.open({
          onDatagram: (asked) => this.#hearInTime(asked),
          onLost: (datagrams) => (this.#lostCount += datagrams),
          onEnd,
        }),
      onOpen: () => this.#table.forgetAll(),
      clock,
      log,
    });
    this.#opening.start();
  }

  get status(): FlowStatus {
    return {
      isHearing: this.#opening.isOpen,
      flows: this.#table.size,
      denied: this.#deniedCount,
      lost: this.#lostCount,
    };
  }

  /** Hears at once, where it does not: whoever had the gate has let go of it. */
  hurry(): void {
    this.#opening.hurry();
  }

  /** Judges every flow again; those that may not go on end, and are recorded. What there is no time for passes no more until its next datagram is asked about. */
  reconsiderAll(): void {
    this.#denied.clear();
    const endMs = this.#nowMs() + RECONSIDER_MS;
    for (const flow of this.#table.all())
      if (this.#nowMs() < endMs) this.#orEnd(flow, () => this.#reconsider(flow));
      else this.#table.suspend(flow);
  }

  /** Nothing passes any more. */
  stop(): void {
    this.#isStopped = true;
    this.#cancelTurn?.();
    this.#opening.stop();
    this.#table.forgetAll();
  }

  /** Whether there was time for it. */
  #hearInTime(asked: AskedDatagram): boolean {
    const isInTime = this.#options.pace.tryTake(this.#partyOf(asked));
    if (isInTime) this.#hear(asked);
    else this.#lostCount += 1;
    return isInTime;
  }

  #hear(asked: AskedDatagram): void {
    const name = nameOfFlow(asked);
    if (this.#denied.has(name)) {
      this.#deniedCount += 1;
      return;
    }
    const flow = this.#table.find(name);
    if (flow !== undefined) return this.#goOn(flow, asked);
    const isNew = !this.#waiting.has(name);
    if (!this.#waiting.add(name, asked)) {
      this.#lostCount += 1;
      return;
    }
    if (isNew) void this.#decide(name, asked);
  }

  /** Of a flow that is known, but that the gate does not let pass any more, or did not yet. */
  #goOn(flow: Flow, asked: AskedDatagram): void {
    if (!this.#mayGoOn(flow)) return;
    flow.askedMs = this.#nowMs();
    this.#pass(flow, [asked]);
  }

  async #decide(name: string, asked: AskedDatagram): Promise<void> {
    try {
      const flow = await this.#judgeFirst(asked);
      const datagrams = this.#waiting.take(name);
      if (flow === undefined) return this.#deny(name, datagrams.length);
      this.#pass(flow, datagrams);
    } catch (error) {
      // Nor would its next one be, a moment later.
      this.#deny(name, this.#waiting.take(name).length);
      this.#note('not_decided', error);
    }
  }

  #deny(name: string, datagrams: number): void {
    this.#denied.add(name);
    this.#deniedCount += datagrams;
  }

  /** The flow, if it may go; recorded either way, but for what was denied alike a moment ago. */
  async #judgeFirst(asked: AskedDatagram): Promise<Flow | undefined> {
    const sockets = this.#findSockets(asked);
    const party = this.#partyOf(asked);
    const { identity, svid } = await this.#judge.identify(sockets);
    const encounter = encounterOfFlow(asked, identity, svid);
    const sender = { identity, svid, encounter };
    // One may have been closed, and another may have its place, or stand beside it.
    const isHeld = sockets.length > 0 && areSame(this.#findSockets(asked), sockets);
    const obstacle = this.#options.gate.findObstacle(asked);
    const { address, port } = asked.destination;
    const denial = `${encounter.caller.spiffeId} ${party} ${address} ${port}`;
    const verdict = this.#judge.judge(sender, {
      refusal: this.#findRefusal({ isHeld, obstacle, party }),
      isRecorded: ({ reason }) => !this.#isRecordedAlready(`${denial} ${reason}`),
    });
    if (!verdict.isAllowed) return undefined;
    const { uid, source, destination } = asked;
    const key = { uid, source, destination };
    const flow: Flow = { ...sender, key, sockets, askedMs: this.#nowMs(), admittedMs: undefined };
    this.#table.add(flow, party);
    this.#cancelTurn ??= this.#scheduleTurn();
    return flow;
  }

  #findRefusal({
    isHeld,
    obstacle,
    party,
  }: {
    readonly isHeld: boolean;
    readonly obstacle: string | undefined;
    readonly party: string;
  }): Refusal | undefined {
    if (obstacle !== undefined) return { reason: 'caller_unidentified', message: obstacle };
    if (!isHeld) return NOT_HELD;
    return this.#table.hasRoomFor(party) ? undefined : TOO_MANY;
  }

  #partyOf({ uid }: FlowKey): string {
    return partyOfUser(uid, this.#options);
  }

  #isRecordedAlready(name: string): boolean {
    const isKnown = this.#recorded.has(name);
    if (!isKnown) this.#recorded.add(name);
    return isKnown;
  }

  /** The sockets that a flow can be of, all of them of the user who sent it; none where it may be another's. */
  #findSockets(asked: FlowKey): readonly UdpSocket[] {
    const { gate, userParties, namespace, pace } = this.#options;
    const party = this.#partyOf(asked);
    const found = gate.findSenders(asked, {
      // Who is root within, or in a user namespace there, can give a socket to whom he likes.
      mayBeOf: (uid) => namespace !== undefined || userParties.mayBeOne(uid, asked.uid),
      users: namespace === undefined ? userParties.findAllOne(asked.uid) : undefined,
      hasTimeFor: (sockets) => pace.tryTake(party, Math.ceil(sockets / PASSED_IN_THE_TIME_OF_ONE)),
    });
    // Whoever may write packets himself (CAP_NET_RAW) writes the port of another user’s socket, too.
    return found.every(({ uid }) => uid === asked.uid) ? found : [];
  }

  #pass(flow: Flow, datagrams: readonly AskedDatagram[]): void {
    const { gate } = this.#options;
    if (this.#isStopped) return;
    try {
      this.#table.admit(flow);
      for (const datagram of datagrams) gate.send(datagram, flow.sockets);
    } catch (error) {
      this.#lostCount += datagrams.length;
      this.#note('not_sent', error);
    }
  }

  /** Whether its sockets are there, and no other beside them; it ends otherwise. */
  #isStill(flow: Flow): boolean {
    const { key, sockets } = flow;
    const isHeld = areSame(this.#findSockets(key), sockets);
    if (isHeld && this.#options.gate.findObstacle(key) === undefined) return true;
    this.#table.end(flow);
    return false;
  }

  /** Whether it may go on; it ends otherwise, and is recorded. */
  #reconsider(flow: Flow): boolean {
    if (this.#judge.mayGoOn(flow)) return true;
    this.#table.end(flow);
    this.#denied.add(nameOfFlow(flow.key));
    return false;
  }

  /** Whether it may go on in every respect; it ends otherwise. */
  #mayGoOn(flow: Flow): boolean {
    return this.#orEnd(flow, () => this.#isStill(flow) && this.#reconsider(flow));
  }

  /** What cannot be looked at does not go on, and nothing else ends for it: what cannot be looked at, its user may have a hand in. */
  #orEnd(flow: Flow, look: () => boolean): boolean {
    try {
      return look();
    } catch (error) {
      this.#table.end(flow);
      this.#note('not_looked_at', error);
      return false;
    }
  }

  #note(what: DatagramFailure, error: unknown): void {
    const { failures, namespace } = this.#options;
    const where = namespace === undefined ? '' : `${namespace.name}: `;
    failures.note(what, `${where}${toPicketError(error).message}`);
  }

  #scheduleTurn(): () => void {
    return this.#options.clock.schedule(TURN_MS, () => {
      this.#turn();
      this.#cancelTurn = this.#table.size > 0 && !this.#isStopped ? this.#scheduleTurn() : undefined;
    });
  }

  /** An eighth of all flows, where there are so many: those whose socket is gone, or whose verdict has changed with time, end; those in use are prolonged. */
  #turn(): void {
    const part = this.#table.nextPart({ parts: TURNS, everyMs: TURNS * TURN_MS });
    const still = part.filter((flow) => this.#mayGoOn(flow));
    try {
      this.#table.prolong(still);
    } catch (error) {
      // Their next datagrams are asked about.
      for (const flow of still) this.#table.suspend(flow);
      this.#note('not_prolonged', error);
    }
  }

  #nowMs(): number {
    return this.#options.clock.monotonicMs();
  }
}

function areSame(some: readonly UdpSocket[], others: readonly UdpSocket[]): boolean {
  const cookies = new Set(others.map(({ cookie }) => cookie));
  return some.length === cookies.size && some.every(({ cookie }) => cookies.has(cookie));
}

const NOT_HELD: Refusal = {
  reason: 'caller_unidentified',
  message: 'The socket that it came from is closed, or it may have come from another one at its port',
};
const TOO_MANY: Refusal = {
  reason: 'overloaded',
  message: 'Too many flows of UDP pass, or too many of this user',
};

import { watchClockJumps } from '../../../shared/runtime/clock-jumps.ts';
import { CrowdReport } from '../../../shared/runtime/crowd-report.ts';
import type { Running } from '../../../shared/runtime/shutdown.ts';
import type { DatagramGate } from '../../capture/datagram-gate.ts';
import type { Directory } from '../../directory/directory.ts';
import type { IdentitySource } from '../../identity/identity.ts';
import type { InNamespace, NetworkNamespace } from '../../native/network-namespace.ts';
import type { Quarantine } from '../../quarantine/quarantine.ts';
import type { UserParties } from '../../subordinate-users/subordinate-users.ts';
import type { SenderIdentifier } from '../../workload-attestation/process-identity.ts';
import { FairShare } from '../connections/fair-share.ts';
import { Judge, type JudgeOptions } from '../judge/judge.ts';
import {
  DecidedFlows,
  type DatagramFailure,
  type DecidedFlowsOptions,
  type FlowRoom,
  type FlowStatus,
} from './decided-flows.ts';
import { FairPace } from './fair-pace.ts';

export interface DatagramsOptions extends JudgeOptions, Pick<DecidedFlowsOptions, 'log'> {
  /** Where UDP leaves this host, or a namespace of it. */
  readonly gateOf: (where: InNamespace) => DatagramGate;
  /** Calls back once the agent that this one takes over from decides no more; undefined: there is none. */
  readonly whenAlone?: ((listener: () => void) => void) | undefined;
  /** Flows that may pass at once. */
  readonly maxFlows: number;
  /** Which users of this host have one share. */
  readonly userParties: UserParties;
  readonly directory: Directory;
  readonly processes: SenderIdentifier;
  readonly identities: Pick<IdentitySource, 'identities' | 'bundles'>;
  readonly quarantine: Pick<Quarantine, 'findHold' | 'watch'>;
}

/** How UDP stands, for metrics and status. */
export interface DatagramStatus extends FlowStatus {
  readonly maxFlows: number;
  /** Namespaces in which it is not heard of, so that none passes there. */
  readonly deafIn: readonly string[];
  /** Namespaces with users of their own, where it is not decided on, and none passes. */
  readonly otherUsersIn: readonly string[];
}

/** Of the host and all its namespaces: a quarter of a core or less. The process that decides on them spreads quarantine and policy, too. */
const HEARD_PER_SECOND = 1000;
const MIB = 1024 * 1024;
const HOST_ROOM: FlowRoom = { maxFlows: 256, maxBytes: 8 * MIB, maxDenials: 4096 };
/** Of one, of which there may be hundreds. */
const NAMESPACE_ROOM: FlowRoom = { maxFlows: 32, maxBytes: MIB / 2, maxDenials: 512 };

/**
 * UDP out of the mesh, decided in one process for the whole host and its captured namespaces, however many carry connections: flows are the kernel's, and whoever hears of them is the only one. What changes (quarantine,
 * policy, registration, identities, trust) makes every flow be judged again.
 */
export class Datagrams implements Running {
  /** None of what it carries is a connection. */
  readonly connections = 0;
  readonly #options: DatagramsOptions;
  readonly #judge: Judge;
  readonly #share: FairShare;
  readonly #pace: FairPace;
  readonly #failures: CrowdReport<DatagramFailure>;
  readonly #host: DecidedFlows;
  readonly #within = new Map<NetworkNamespace, DecidedFlows>();
  readonly #unwatch: readonly (() => void)[];
  /** Of namespaces that are no more. */
  #past = { denied: 0, lost: 0 };
  #isStopped = false;

  /** Decides from now on, or from when the agent before this one does no more. */
  constructor(options: DatagramsOptions) {
    const { maxFlows, quarantine, directory, identities, authorizer, clock, log } = options;
    this.#options = options;
    this.#judge = new Judge(options);
    this.#share = new FairShare(maxFlows);
    this.#pace = new FairPace(clock, HEARD_PER_SECOND);
    this.#failures = new CrowdReport({ event: 'datagrams_failed', clock, log });
    this.#host = this.#decide({}, HOST_ROOM);
    const reconsider = (): void => {
      for (const flows of this.#all()) flows.reconsiderAll();
    };
    options.whenAlone?.(() => {
      for (const flows of this.#all()) flows.hurry();
    });
    this.#unwatch = [
      ...[quarantine, directory, identities.identities, identities.bundles, authorizer].map((watched) =>
        watched.watch(reconsider),
      ),
      // Policies read the clock.
      watchClockJumps(clock, reconsider),
    ];
  }

  get status(): DatagramStatus {
    const all = this.#all().map(({ status }) => status);
    const sum = (of: (status: FlowStatus) => number): number =>
      all.reduce((total, each) => total + of(each), 0);
    const deaf = Array.from(this.#within).filter(([, { status }]) => !status.isHearing);
    return {
      isHearing: this.#host.status.isHearing,
      deafIn: deaf.map(([{ name }]) => name),
      otherUsersIn: Array.from(this.#within.keys())
        .filter(({ hasOtherUsers }) => hasOtherUsers)
        .map(({ name }) => name),
      flows: this.#share.taken,
      maxFlows: this.#options.maxFlows,
      denied: this.#past.denied + sum(({ denied }) => denied),
      lost: this.#past.lost + sum(({ lost }) => lost),
    };
  }

  /** Decides on what leaves a captured namespace as well; nothing once it has stopped. */
  listenIn(namespace: NetworkNamespace): { readonly stop: () => void } {
    if (this.#isStopped) return { stop: () => undefined };
    const flows = this.#decide({ namespace }, NAMESPACE_ROOM);
    this.#within.set(namespace, flows);
    return {
      stop: () => {
        flows.stop();
        if (!this.#within.delete(namespace)) return;
        const { denied, lost } = flows.status;
        this.#past = { denied: this.#past.denied + denied, lost: this.#past.lost + lost };
      },
    };
  }

  /** Lets every flow go: whoever takes over hears of its next datagram, and decides anew. */
  async drain(): Promise<void> {
    await this.stop();
  }

  /** Nothing passes any more. */
  stop(): Promise<void> {
    this.#isStopped = true;
    for (const unwatch of this.#unwatch) unwatch();
    for (const flows of this.#all()) flows.stop();
    return Promise.resolve();
  }

  #all(): readonly DecidedFlows[] {
    return [this.#host, ...this.#within.values()];
  }

  #decide(where: InNamespace, room: FlowRoom): DecidedFlows {
    const { gateOf, identities, log } = this.#options;
    return new DecidedFlows({
      ...this.#options,
      ...where,
      gate: gateOf(where),
      judge: this.#judge,
      identities: identities.identities,
      share: this.#share,
      pace: this.#pace,
      failures: this.#failures,
      room,
      log: where.namespace === undefined ? log : log.with({ namespace: where.namespace.name }),
    });
  }
}

import { PicketError } from '../../shared/errors/errors.ts';
import type { Clock } from '../../shared/runtime/clock.ts';
import type { Log } from '../../shared/runtime/log.ts';
import type { Running } from '../../shared/runtime/shutdown.ts';
import { AgentIncumbent, type AgentIncumbentOptions } from './agent-incumbent.ts';
import type { Predecessor } from '../handover/predecessor.ts';
import { startSuccessorProcess } from '../handover/successor.ts';
import { Upgrade, type Upgraded } from '../handover/upgrade.ts';

export interface AgentReplacementOptions {
  readonly version: string;
  /** What is run to replace this process. */
  readonly successorCommand: readonly string[];
  /** The agent that this process took over from. */
  readonly predecessor: Predecessor | undefined;
  readonly drainMs: number;
  readonly clock: Clock;
  readonly log: Log;
}

/** How another process takes the agent's place: whether it may, what ends then, and from when on it can. */
export class AgentReplacement {
  readonly #options: AgentReplacementOptions;
  readonly #handedOver: { readonly name: string; readonly stop: () => Promise<void> }[] = [];
  #upgrade: Upgrade | undefined;

  constructor(options: AgentReplacementOptions) {
    this.#options = options;
  }

  /** This part ends once another process serves, whatever is still open here. */
  endsWithIt(name: string, part: Running & { readonly retire?: () => void }): void {
    const stop = async (): Promise<void> => {
      if (part.retire === undefined) await part.stop();
      else part.retire();
    };
    this.#handedOver.push({ name, stop });
  }

  /** From now on it can be. Records are shipped; what it returns ends that. */
  allow(
    parts: Omit<AgentIncumbentOptions, 'handedOver' | 'drainMs' | 'clock' | 'log'>,
  ): Pick<AgentIncumbent, 'stop'> {
    const { version, successorCommand: command, drainMs, clock, log } = this.#options;
    const incumbent = new AgentIncumbent({ ...parts, handedOver: this.#handedOver, drainMs, clock, log });
    this.#upgrade = new Upgrade({
      incumbent,
      start: (sockets) => startSuccessorProcess(sockets, { command, clock }),
      version,
      drainMs,
      clock,
      log,
    });
    return incumbent;
  }

  /** Has another process take over. Rejects with `failed_precondition` where that cannot be now, and as `Upgrade.run`. */
  async run(): Promise<Upgraded> {
    this.#requireAlone();
    if (this.#upgrade === undefined)
      throw new PicketError('failed_precondition', 'agent_starting', 'The agent is still starting');
    return await this.#upgrade.run();
  }

  /** Until the agent before this one has ended it may still step back and kill this process, whose own successor would then be a second agent. */
  #requireAlone(): void {
    const { predecessor } = this.#options;
    if (predecessor === undefined || predecessor.hasEnded) return;
    const { draining } = predecessor;
    throw new PicketError(
      'failed_precondition',
      'upgrade_under_way',
      draining === undefined
        ? 'The agent before this one has not given way yet'
        : `The agent before this one still carries ${draining.connections} connections, until ${draining.endsAt}`,
    );
  }
}

import type { Running } from '../../shared/runtime/shutdown.ts';
import type { HandoverChannel } from '../handover/predecessor.ts';

/** What the process gives to the role. */
export interface AgentRuntime {
  readonly configPath: string;
  readonly environment: Readonly<Record<string, string | undefined>>;
  readonly version: string;
  readonly writeLog: (line: string) => void;
  /** The program with its arguments that becomes a worker of the data path, asked for before each start. */
  readonly workerCommand: () => readonly string[];
  /** Whether it takes out of the mesh what the policy sends through a gateway that is registered here. */
  readonly isGateway?: boolean;
  /** What is run to replace this process. */
  readonly successorCommand: readonly string[];
  /** To the agent that this process takes over from. */
  readonly channel?: HandoverChannel;
}

/** An agent that runs. `ended`: another process has taken over from it, and nothing is left to do; rejects where the agent that it was to replace ended before it had given way, so that it must not run. */
export interface RunningAgent extends Running {
  readonly ended: Promise<void>;
}

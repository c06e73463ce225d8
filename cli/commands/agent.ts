import { Option, type Command } from 'commander';
import { statusAnswer } from '../../agent/admin/admin-answers.ts';
import { AGENT_CONFIG_EXAMPLE } from '../../agent/config/config-example.ts';
import { readAgentConfig } from '../../agent/config/config.ts';
import type { HandoverChannel } from '../../agent/handover/predecessor.ts';
import type { Running } from '../../shared/runtime/shutdown.ts';
import { waitForSignal } from '../../shared/runtime/signals.ts';
import { AgentClient, withAgentSocket } from '../agent-client.ts';
import { withExamples } from '../example.ts';
import { outputOf } from '../session.ts';
import { VERSION } from '../version.ts';
import { configOption } from './agent-options.ts';
import { registerUpgrade } from './agent-upgrade.ts';
import { handoverChannel, successorCommand } from './successor-command.ts';
import { registerAgentCapture, type CaptureParts } from './agent-capture.ts';
import { registerWorker, workerCommand } from './worker-command.ts';

/** Starts the agent: as `startServer` of the server. */
export type StartAgent = (runtime: {
  readonly configPath: string;
  readonly environment: Readonly<Record<string, string | undefined>>;
  readonly version: string;
  /** Takes a line of the log without its newline. */
  readonly writeLog: (line: string) => void;
  /** As which a worker of the data path is started. */
  readonly workerCommand: () => readonly string[];
  /** Whether it is a gateway out of the mesh as well. */
  readonly isGateway?: boolean;
  /** What is run to replace this process. */
  readonly successorCommand: readonly string[];
  /** To the agent that this process takes over from. */
  readonly channel?: HandoverChannel;
}) => Promise<RunningAgent>;

/** An agent that runs. */
export interface RunningAgent extends Running {
  /** Resolves when another process has taken over and nothing is left to do. */
  readonly ended: Promise<void>;
}

/** Becomes a worker of the data path, which an agent has started; returns never. */
export type RunWorker = (runtime: { readonly writeLog: (line: string) => void }) => Promise<void>;

/** What the commands work with. */
export interface AgentParts extends CaptureParts {
  readonly startAgent?: StartAgent;
  readonly runWorker?: RunWorker;
}

interface ConfigOption {
  readonly config: string;
}

/** How an agent is run. */
export interface RunOptions extends ConfigOption {
  readonly takeOver?: boolean;
}

/** `picket agent`: the role that runs on each host, and what is asked of it there. */
export function registerAgent(program: Command, parts: AgentParts): void {
  const agent = program
    .command('agent')
    .description('the agent of this host: run it, look at it, its capture');
  if (parts.startAgent !== undefined) registerRun(agent, parts.startAgent);
  const { runWorker } = parts;
  if (runWorker !== undefined) registerWorker(agent, async () => await runWorker({ writeLog }));
  withExamples(
    agent
      .command('check-config')
      .description('check the settings without starting anything')
      .addOption(configOption())
      .action(checkConfig),
    'picket agent check-config --config agent.yaml',
  );
  withExamples(
    agent
      .command('config-example')
      .description('print a configuration with every setting, explained')
      .action(printExample),
    'picket agent config-example > /etc/picket/agent.yaml',
  );
  withExamples(
    withAgentSocket(
      agent.command('status').description('how the agent stands: identities, server, policy, capture, audit'),
    ).action(showStatus),
    'picket agent status',
  );
  registerUpgrade(agent);
  registerAgentCapture(agent, parts);
}

function registerRun(agent: Command, startAgent: StartAgent): void {
  withExamples(
    agent
      .command('run')
      .description('run the agent until it gets SIGTERM or SIGINT')
      .addOption(configOption())
      .addOption(takeOverOption())
      .action(async (options: RunOptions) => await runAgent(startAgent, options)),
    'picket agent run --config /etc/picket/agent.yaml',
  );
}

function writeLog(line: string): void {
  process.stderr.write(`${line}\n`);
}

/** Not for people: given by the agent that is replaced. */
export function takeOverOption(): Option {
  return new Option('--take-over', 'started by the agent that is replaced').hideHelp();
}

/** Runs the agent until the process is told to end, or another has taken over from it. */
export async function runAgent(
  startAgent: StartAgent,
  { config, takeOver, isGateway = false }: RunOptions & { readonly isGateway?: boolean },
): Promise<void> {
  const channel = takeOver === true ? handoverChannel() : undefined;
  let running: Awaited<ReturnType<StartAgent>> | undefined;
  try {
    running = await startAgent({
      configPath: config,
      environment: process.env,
      version: VERSION,
      writeLog,
      workerCommand,
      successorCommand: successorCommand(config, isGateway ? ['gateway', '--egress'] : ['agent', 'run']),
      isGateway,
      ...(channel === undefined ? {} : { channel }),
    });
    await waitForSignal(running.ended);
  } finally {
    await running?.stop();
    channel?.close();
  }
}

async function checkConfig({ config }: ConfigOption, command: Command): Promise<void> {
  const { trustDomain } = await readAgentConfig(config, process.env);
  outputOf(command).result({ config, trustDomain, ok: true }, () => `${config} is good`);
}

function printExample(_options: unknown, command: Command): void {
  outputOf(command).result({ example: AGENT_CONFIG_EXAMPLE }, () => AGENT_CONFIG_EXAMPLE);
}

async function showStatus(
  { agentSocket }: { readonly agentSocket: string },
  command: Command,
): Promise<void> {
  const status = await new AgentClient(agentSocket).get('/status', statusAnswer);
  // A role that runs for months keeps what it has loaded.
  const { renderStatus } = await import('./agent-status.ts');
  outputOf(command).result(status, renderStatus);
}

import { existsSync } from 'node:fs';
import { dirname } from 'node:path';
import type { Command } from 'commander';
import { statusAnswer, type StatusAnswer } from '../../agent/admin/admin-answers.ts';
import { CaptureTrial } from '../../agent/admin/capture-trial.ts';
import { findSshPorts } from '../../agent/capture/ssh-ports.ts';
import type { TryableCapture } from '../../agent/capture/tryable-capture.ts';
import { captureSettingsOf, readAgentConfig } from '../../agent/config/config.ts';
import { PicketError } from '../../shared/errors/errors.ts';
import { systemClock } from '../../shared/runtime/clock.ts';
import { AgentClient, withAgentSocket } from '../agent-client.ts';
import { captureKeeping, type CaptureKeeping } from '../capture-keeping.ts';
import { durationSeconds } from '../duration-option.ts';
import { withExamples } from '../example.ts';
import { outputOf } from '../session.ts';
import { configOption } from './agent-options.ts';

/** Opens the capture of this host. */
export type OpenCapture = (options: CaptureKeeping) => Promise<TryableCapture>;

/** What works on the rules. */
export interface CaptureParts {
  readonly openCapture: OpenCapture;
  /** Takes away what is in other namespaces of this host. */
  readonly removeFromNamespaces: (namespaces: CaptureKeeping['namespaces']) => Promise<void>;
}

interface CaptureOptions {
  readonly config: string;
  readonly agentSocket: string;
}

interface ApplyOptions extends CaptureOptions {
  readonly confirmWithin?: number;
}

interface RemoveOptions extends CaptureOptions {
  readonly force?: boolean;
}

/** `picket agent capture`: the rules that steer this host's traffic. They are worked on in the kernel itself, so it works with a dead agent. */
export function registerAgentCapture(agent: Command, parts: CaptureParts): void {
  const { openCapture, removeFromNamespaces } = parts;
  const capture = agent
    .command('capture')
    .description('the rules that steer this host’s traffic into the agent; with the agent dead too');
  withExamples(
    capture
      .command('show')
      .description('print the rules and programs that are in the kernel')
      .addOption(configOption())
      .action(async (options: Pick<CaptureOptions, 'config'>, command: Command) => {
        const rules = await (await openCapture(await findWhole(options.config))).show();
        outputOf(command).result({ rules }, (shown) =>
          shown.rules === '' ? 'No capture rules: traffic passes as if Picket were not here.' : shown.rules,
        );
      }),
    'picket agent capture show',
  );
  registerApply(capture, openCapture);
  withExamples(
    withAgentSocket(capture.command('remove'))
      .description('remove the rules and programs, from the kernel and for the next boot')
      .addOption(configOption())
      .option('--force', 'even though the agent runs and will put them back')
      .action(async (options: RemoveOptions, command: Command) => {
        if (options.force !== true) await requireNotKept(options, 'remove');
        const whole = await findWhole(options.config);
        await (await openCapture(whole)).remove();
        await removeFromNamespaces(whole.namespaces);
        outputOf(command).result({ removed: true }, () => 'Removed the capture rules');
      }),
    'picket agent capture remove',
  );
}

function registerApply(capture: Command, openCapture: OpenCapture): void {
  withExamples(
    withAgentSocket(capture.command('apply'))
      .description('install the rules that the configuration asks for')
      .addOption(configOption())
      .option('--confirm-within <duration>', 'undo them unless confirmed in time', durationSeconds)
      .action(async (options: ApplyOptions, command: Command) => {
        await apply(options, openCapture, command);
      }),
    'picket agent capture apply --config /etc/picket/agent.yaml --confirm-within 60s',
    'picket agent capture confirm',
  );
  withExamples(
    withAgentSocket(capture.command('confirm'))
      .description(
        'keep the rules that are being tried: give it from a new session, to be sure that one can log in',
      )
      .addOption(configOption())
      .action(async (options: CaptureOptions, command: Command) => {
        await trialOf(await openCapture(await findWhole(options.config)), options).confirm();
        outputOf(command).result({ kept: true }, () => 'Kept the capture rules');
      }),
    'picket agent capture confirm',
  );
}

async function apply(options: ApplyOptions, openCapture: OpenCapture, command: Command): Promise<void> {
  const status = await requireNotKept(options, 'apply');
  const config = await readAgentConfig(options.config, process.env);
  const capture = await openCapture(captureKeeping(config));
  const settings = captureSettingsOf(config, {
    sshPorts: await findSshPorts(process.env['SSH_CONNECTION']),
    localPorts: status?.capture.localPorts ?? [],
    agentUid: process.geteuid?.() ?? 0,
  });
  const output = outputOf(command);
  if (options.confirmWithin === undefined) {
    await capture.apply(settings);
    output.result({ applied: true }, () => 'Applied the capture rules');
    return;
  }
  const untilMs = await trialOf(capture, options).begin(settings, options.confirmWithin);
  const undoneAt = new Date(untilMs).toISOString();
  output.result(
    { applied: true, undoneAt },
    () =>
      `Applied the capture rules until ${undoneAt}. To keep them, from a new session: picket agent capture confirm`,
  );
}

/** A trial waits beside the agent's socket: gone with a reboot, as the rules are. */
function trialOf(capture: TryableCapture, { agentSocket }: CaptureOptions): CaptureTrial {
  return new CaptureTrial({ capture, folder: dirname(agentSocket), clock: systemClock });
}

/** A running agent that keeps the rules would undo the change at its next look. Its status, if one runs. */
async function requireNotKept(
  { agentSocket }: CaptureOptions,
  verb: 'apply' | 'remove',
): Promise<StatusAnswer | undefined> {
  const status = await findStatus(agentSocket);
  if (status === undefined || status.capture.mode === 'off') return status;
  throw new PicketError(
    'failed_precondition',
    'agent_keeps_rules',
    `Cannot ${verb} the capture rules: the agent runs and keeps them. Stop it first, or set capture.enabled to false`,
  );
}

async function findStatus(agentSocket: string): Promise<StatusAnswer | undefined> {
  try {
    return await new AgentClient(agentSocket).get('/status', statusAnswer);
  } catch (error) {
    if (error instanceof PicketError && error.reason === 'agent_unreachable') return undefined;
    throw error;
  }
}

/** All that either backend installs, wherever it is. Looking and removing must work whatever became of the configuration. */
async function findWhole(path: string): Promise<CaptureKeeping> {
  return { ...(await findKeeping(path)), backend: 'ebpf' };
}

async function findKeeping(path: string): Promise<CaptureKeeping> {
  if (!existsSync(path)) return captureKeeping(undefined);
  try {
    return captureKeeping(await readAgentConfig(path, process.env));
  } catch (error) {
    if (error instanceof PicketError) return captureKeeping(undefined);
    throw error;
  }
}

import { existsSync } from 'node:fs';
import { Option, type Command } from 'commander';
import { PicketError } from '../../shared/errors/errors.ts';
import { withAgentSocket } from '../agent-client.ts';
import type { Check } from '../doctor/check.ts';
import { examineAgent, examineServer, type Instruments } from '../doctor/examine.ts';
import { withExamples } from '../example.ts';
import { printable, table } from '../output.ts';
import { DEFAULT_SERVER_SOCKET, openSession } from '../session.ts';
import { DEFAULT_AGENT_CONFIG } from './agent-options.ts';
import { DEFAULT_SERVER_CONFIG } from './server.ts';

/** What the doctor looks at the host with. */
export type OpenInstruments = () => Promise<Pick<Instruments, 'probeCapture' | 'diagnoseSockets'>>;

interface DoctorOptions {
  readonly agentSocket: string;
  readonly agentConfig: string;
  readonly serverConfig: string;
  readonly socket?: string;
  readonly server?: string;
  readonly role?: 'agent' | 'server';
}

const EXIT_UNWELL = 1;

/** `picket doctor`: what is wrong on this host, and what to do about it. */
export function registerDoctor(program: Command, openInstruments: OpenInstruments): void {
  const doctor = program
    .command('doctor')
    .description(
      'look at this host, its agent and its server: what is wrong, and what to do; ends with 1 if anything is',
    )
    .addOption(new Option('--role <role>', 'look at this role alone').choices(['agent', 'server']))
    .addOption(
      new Option('--agent-config <file>', 'settings of the agent')
        .env('PICKET_AGENT_CONFIG')
        .default(DEFAULT_AGENT_CONFIG),
    )
    .addOption(
      new Option('--server-config <file>', 'settings of the server')
        .env('PICKET_SERVER_CONFIG')
        .default(DEFAULT_SERVER_CONFIG),
    )
    .action(async (_options: unknown, command: Command) => await examine(command, openInstruments));
  withExamples(withAgentSocket(doctor), 'picket doctor', 'picket doctor --json');
}

async function examine(command: Command, openInstruments: OpenInstruments): Promise<void> {
  if (process.geteuid?.() !== 0)
    throw new PicketError('permission_denied', 'not_root', 'picket doctor must be run as root');
  const options = command.optsWithGlobals<DoctorOptions>();
  const { client, output } = openSession(command);
  const instruments: Instruments = {
    ...(await openInstruments()),
    ...options,
    client,
    environment: process.env,
    nowMs: Date.now(),
  };
  const checks: Check[] = [];
  const roles = findRoles(options);
  if (roles.includes('agent')) checks.push(...(await examineAgent(instruments)));
  if (roles.includes('server')) checks.push(...(await examineServer(instruments)));
  const isWell = checks.every(({ outcome }) => outcome !== 'fail');
  output.result({ ok: isWell, checks }, () => render(checks));
  if (!isWell) process.exitCode = EXIT_UNWELL;
}

/** The roles of this host, by what is there of them. Throws `not_found`, reason `nothing_here`. */
function findRoles(options: DoctorOptions): readonly ('agent' | 'server')[] {
  if (options.role !== undefined) return [options.role];
  const { agentSocket, agentConfig, serverConfig, socket = DEFAULT_SERVER_SOCKET, server } = options;
  const signs = {
    agent: [agentSocket, agentConfig].some((path) => existsSync(path)),
    server: server !== undefined || [socket, serverConfig].some((path) => existsSync(path)),
  };
  const roles = (['agent', 'server'] as const).filter((role) => signs[role]);
  if (roles.length > 0) return roles;
  throw new PicketError(
    'not_found',
    'nothing_here',
    `There is neither an agent nor a server on this host: no ${agentConfig}, no ${serverConfig}, no socket (--role looks all the same)`,
  );
}

function render(checks: readonly Check[]): string {
  const rows = table(
    checks,
    [
      { title: '', of: ({ outcome }) => SIGNS[outcome] },
      { title: 'of', of: ({ area }) => area },
      { title: 'check', of: ({ name }) => name },
      { title: 'found', of: ({ found }) => found },
    ],
    'Nothing was looked at.',
  );
  const advice = checks
    .filter((check) => check.advice !== undefined)
    .map(({ area, name, advice = '' }) => `  ${area}, ${name}: ${printable(advice)}`);
  return advice.length === 0 ? `${rows}\n\nAll is well.` : `${rows}\n\nWhat to do:\n${advice.join('\n')}`;
}

const SIGNS: Readonly<Record<Check['outcome'], string>> = { ok: 'ok', warn: 'WARN', fail: 'FAIL' };

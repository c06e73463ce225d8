import type { Command } from 'commander';
import { statusAnswer, type StatusAnswer } from '../../agent/admin/admin-answers.ts';
import { AGENT_CONFIG_EXAMPLE } from '../../agent/config-example.ts';
import { readAgentConfig } from '../../agent/config.ts';
import type { Running } from '../../shared/runtime/shutdown.ts';
import { waitForSignal } from '../../shared/runtime/signals.ts';
import { AgentClient, withAgentSocket } from '../agent-client.ts';
import { withExamples } from '../example.ts';
import { fields, formatSkew, table } from '../output.ts';
import { outputOf } from '../session.ts';
import { VERSION } from '../version.ts';
import { configOption } from './agent-options.ts';
import { registerAgentCapture, type OpenCapture } from './agent-capture.ts';

/** Starts the agent: as `startServer` of the server. */
export type StartAgent = (runtime: {
  readonly configPath: string;
  readonly environment: Readonly<Record<string, string | undefined>>;
  readonly version: string;
  /** Takes a line of the log without its newline. */
  readonly writeLog: (line: string) => void;
}) => Promise<Running>;

/** What the commands work with. */
export interface AgentParts {
  readonly startAgent?: StartAgent;
  readonly openCapture: OpenCapture;
}

interface ConfigOption {
  readonly config: string;
}

/** `picket agent`: the role that runs on each host, and what is asked of it there. */
export function registerAgent(program: Command, parts: AgentParts): void {
  const agent = program
    .command('agent')
    .description('the agent of this host: run it, look at it, its capture');
  if (parts.startAgent !== undefined) registerRun(agent, parts.startAgent);
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
  registerAgentCapture(agent, parts.openCapture);
}

function registerRun(agent: Command, startAgent: StartAgent): void {
  withExamples(
    agent
      .command('run')
      .description('run the agent until it gets SIGTERM or SIGINT')
      .addOption(configOption())
      .action(async ({ config }: ConfigOption) => {
        const running = await startAgent({
          configPath: config,
          environment: process.env,
          version: VERSION,
          writeLog: (line) => process.stderr.write(`${line}\n`),
        });
        await waitForSignal();
        await running.stop();
      }),
    'picket agent run --config /etc/picket/agent.yaml',
  );
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
  outputOf(command).result(status, renderStatus);
}

function renderServer(server: StatusAnswer['server']): string {
  const { isConnected, lastHeardAt, refusal, failure, isClockSkewed, clockSkewMs = 0 } = server;
  const facts = [
    isConnected ? 'connected' : `not connected, last heard ${lastHeardAt ?? 'never since start'}`,
    ...(refusal === undefined ? [] : [`turned away: ${refusal}`]),
    ...(failure === undefined || refusal !== undefined ? [] : [failure]),
    ...(isClockSkewed ? [`this host’s clock is ${formatSkew(clockSkewMs)}`] : []),
  ];
  return facts.join('; ');
}

function renderAudit({ depth, bytes, refused, refusing }: StatusAnswer['audit']): string {
  const facts = `${depth} records to ship (${bytes} bytes), ${refused} refused`;
  return refusing === undefined ? facts : `${facts}; requests are refused now: ${refusing}`;
}

function renderStatus(status: StatusAnswer): string {
  const { agent, policy, capture, audit, workloadApi } = status;
  const facts = fields([
    ['agent', agent?.spiffeId ?? '(not attested yet)'],
    ['until', agent?.notAfter ?? '-'],
    ['ready', status.missing === undefined ? 'yes' : `no: ${status.missing}`],
    ['version', `${status.version}, since ${status.startedAt}`],
    ['server', renderServer(status.server)],
    [
      'policy',
      policy === null
        ? 'none: everything is denied'
        : `version ${policy.version} (sequence ${policy.sequence})`,
    ],
    ['quarantine', renderQuarantine(status.quarantine)],
    ['audit mode', status.auditedServices.join(', ') || 'no service of this host'],
    ['capture', renderCapture(capture)],
    ['processes', renderHolderSearch(status.holderSearch)],
    ['connections', String(status.connections)],
    ['workload api', `${workloadApi.connections} connections, ${workloadApi.streams} streams`],
    ['audit', renderAudit(audit)],
  ]);
  const identities = table(
    status.identities,
    [
      { title: 'identity', of: (identity) => identity.spiffeId },
      { title: 'until', of: (identity) => identity.notAfter },
      { title: 'entry', of: (identity) => identity.entryId },
    ],
    'No workload identities.',
  );
  return `${facts}\n\n${identities}`;
}

function renderQuarantine({ inForce, isThisHost, workloads }: StatusAnswer['quarantine']): string {
  if (isThisHost) return 'THIS HOST: nothing on it calls or is called';
  const own = workloads.length === 0 ? 'none of this host' : workloads.join(', ');
  return `${own}; ${inForce} in force in the mesh`;
}

function renderCapture({ mode, isIntact, repairs }: StatusAnswer['capture']): string {
  if (mode === 'off') return 'not kept by the agent';
  return `${mode}, ${isIntact ? 'intact' : 'NOT intact'}, repaired ${repairs} times`;
}

function renderHolderSearch(search: StatusAnswer['holderSearch']): string {
  switch (search) {
    case null:
      return 'not looked for yet';
    case 'bpf_walk':
      return 'found by a program in the kernel';
    case 'bpf_iterator':
      return 'found by a program on the kernel’s iterator';
    case 'proc':
      return 'found by reading /proc, since the kernel takes no program of the agent';
  }
}

import { existsSync } from 'node:fs';
import { statusAnswer, type StatusAnswer } from '../../agent/admin/admin-answers.ts';
import type { CaptureSettings } from '../../agent/capture/capture.ts';
import { readEphemeralSettings } from '../../agent/capture/ephemeral-ports.ts';
import { findForeignChains } from '../../agent/capture/foreign-chains.ts';
import type { CaptureProbe } from '../../agent/capture/open-capture.ts';
import { captureSettingsOf, readAgentConfig, type AgentConfig } from '../../agent/config/config.ts';
import { PicketError, toPicketError } from '../../shared/errors/errors.ts';
import { serverHealth } from '../../shared/protocol/operator.ts';
import { findDiskSpace } from '../../shared/runtime/process-limits.ts';
import { AgentClient } from '../agent-client.ts';
import { captureKeeping, type CaptureKeeping } from '../capture-keeping.ts';
import { summarizeCertificates } from '../certificate-summary.ts';
import type { ServerClient } from '../server-client.ts';
import { agentIsDown, checkAgent } from './agent-checks.ts';
import { checkEphemeralPorts } from './capture-checks.ts';
import { checkerOf, when, type Check } from './check.ts';
import { checkDisk } from './disk-check.ts';
import { checkHost } from './host-checks.ts';
import { checkAuthority, checkServerHealth } from './server-checks.ts';

/** What the doctor looks with. */
export interface Instruments {
  readonly probeCapture: (keeping: CaptureKeeping) => CaptureProbe;
  /** Asks the kernel for sockets; throws when it does not tell. */
  readonly diagnoseSockets: () => void;
  readonly client: ServerClient;
  readonly agentSocket: string;
  readonly agentConfig: string;
  readonly serverConfig: string;
  readonly environment: Readonly<Record<string, string | undefined>>;
  readonly nowMs: number;
}

/** Looks at the agent of this host, and at what it needs of the host. */
export async function examineAgent(instruments: Instruments): Promise<readonly Check[]> {
  const { agentSocket, agentConfig, environment, nowMs } = instruments;
  const config = await attempt(async () => await readAgentConfig(agentConfig, environment));
  const status = await attempt(async () => await new AgentClient(agentSocket).get('/status', statusAnswer));
  const known = status instanceof PicketError ? undefined : status;
  const keeping = captureKeeping(config instanceof PicketError ? undefined : config);
  const capture = instruments.probeCapture(keeping);
  const rules = await attempt(async () => await capture.show());
  const chains = await attempt(async () => await capture.listChains());
  const trial = await attempt(async () => await capture.tryOut(settingsFor(config, known)));
  const sockets = await attempt(async () => instruments.diagnoseSockets());
  const host = checkHost({
    rules,
    foreign: chains instanceof PicketError ? chains : findForeignChains(chains),
    trial: trial instanceof PicketError ? trial : undefined,
    socketDiagnosis: sockets instanceof PicketError ? sockets : undefined,
    isCaptureWanted: isCaptureWanted(config, known),
    backend: keeping.backend,
    obstacleToPrograms: capture.findObstacle(),
  });
  const configuration = existsSync(agentConfig) ? [checkConfiguration('agent', agentConfig, config)] : [];
  if (known !== undefined)
    return [
      ...host,
      ...configuration,
      ...checkAgent(known, nowMs),
      ...checkEphemeralPorts(known, await attempt(async () => readEphemeralSettings())),
    ];
  const disk = config instanceof PicketError ? [] : [diskOf('agent', config.dataDirectory)];
  const down = agentIsDown(toPicketError(status).message, rules !== '');
  return [...host, ...configuration, down, ...disk];
}

/** Looks at the server of this host: what it says, and, where its configuration is here, its authority and its disk. */
export async function examineServer(instruments: Instruments): Promise<readonly Check[]> {
  const { client, serverConfig: configPath, environment, nowMs } = instruments;
  const health = checkServerHealth(
    await attempt(async () => await client.get('/health', serverHealth)),
    nowMs,
  );
  if (!existsSync(configPath)) return health;
  const { loadServerConfig } = await import('../../server/load-config.ts');
  const config = await attempt(async () => await loadServerConfig({ configPath, environment }));
  const configuration = checkConfiguration('server', configPath, config);
  if (config instanceof PicketError) return [configuration, ...health];
  const certificates = await attempt(async () => summarizeCertificates(config.caDirectory));
  return [
    configuration,
    ...health,
    ...checkAuthority(certificates, nowMs),
    diskOf('server', config.dataDirectory),
  ];
}

/** The rules that would be installed, or some, where nobody says which. */
function settingsFor(config: AgentConfig | PicketError, status: StatusAnswer | undefined): CaptureSettings {
  const { localPorts = [], transparentPorts = [] } = status?.capture ?? {};
  if (!(config instanceof PicketError))
    return captureSettingsOf(config, { sshPorts: [], localPorts, transparentPorts, agentUid: 0 });
  return {
    ports: { outbound: 15_001, inbound: 15_006, mesh: 15_008 },
    mark: 0x5049,
    exclude: { inboundPorts: [22], outboundPorts: [], outboundAddresses: [], users: [] },
    allowUdp: [],
    localPorts,
  };
}

function isCaptureWanted(config: AgentConfig | PicketError, status: StatusAnswer | undefined): boolean {
  if (status !== undefined) return status.capture.mode !== 'off';
  return config instanceof PicketError || config.capture.isEnabled;
}

function checkConfiguration(area: 'agent' | 'server', path: string, config: object): Check {
  return checkerOf(area)(
    'configuration',
    path,
    when(config instanceof PicketError, 'fail', toMessage(config), `picket ${area} check-config`),
  );
}

function toMessage(config: object): string {
  return config instanceof Error ? config.message : '';
}

function diskOf(area: 'agent' | 'server', path: string): Check {
  return checkDisk(area, path, findDiskSpace(path));
}

async function attempt<T>(work: () => Promise<T>): Promise<T | PicketError> {
  try {
    return await work();
  } catch (error) {
    return toPicketError(error);
  }
}

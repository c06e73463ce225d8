import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Child, run, runOk, type RunResult } from './child.ts';
import type { TestHost } from './netns.ts';
import { upgradeAnswer, type UpgradeAnswer } from '../../agent/admin/admin-answers.ts';
import { picketBinary } from './picket-binary.ts';
import { isAlive, lifeOf, type ProcessLife } from './process-lives.ts';
import { waitUntil } from './wait.ts';
import { Examination, findMetric } from './witnesses.ts';

/** How a host of a test proves itself. */
export type HostAttestation =
  | { readonly type: 'tpm'; readonly address: string }
  | { readonly type: 'join_token'; readonly token: string };

export interface MeshHostOptions {
  readonly host: TestHost;
  readonly name: string;
  /** For the agent's state, sockets and log. */
  readonly folder: string;
  readonly trustDomain: string;
  /** HOST:PORT of the server. */
  readonly server: string;
  readonly trust: { readonly bundleFile: string } | { readonly rootKeySha256: string };
  readonly attestation: HostAttestation;
  /** Settings beside these, by their names in agent.yaml. */
  readonly settings?: Readonly<Record<string, unknown>>;
}

export interface LaunchOptions {
  /** Runs `picket gateway --egress` in the place of `picket agent run`. */
  readonly isGateway?: boolean;
  /** A program with its arguments that replaces itself with the agent, such as prlimit. */
  readonly through?: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
}

const METRICS_PORT = 15_020;

/** `picket agent` on a host of a test. */
export class MeshHost {
  readonly host: TestHost;
  readonly name: string;
  readonly folder: string;
  readonly workloadApi: string;
  readonly configFile: string;
  readonly attestation: HostAttestation;
  readonly #adminSocket: string;
  #agent: Child | undefined;
  /** The process that took over last, which is not our child. */
  #successor: ProcessLife | undefined;
  /** The process that was replaced last. */
  #predecessor: ProcessLife | undefined;

  constructor(options: MeshHostOptions) {
    this.host = options.host;
    this.name = options.name;
    this.folder = options.folder;
    this.attestation = options.attestation;
    this.workloadApi = join(options.folder, 'agent.sock');
    this.#adminSocket = join(options.folder, 'admin.sock');
    this.configFile = join(options.folder, 'agent.yaml');
    mkdirSync(options.folder, { recursive: true });
    const config = configOf(options, { workloadApi: this.workloadApi, admin: this.#adminSocket });
    writeFileSync(this.configFile, JSON.stringify(config, null, 2));
  }

  get logFile(): string {
    return join(this.folder, 'agent.log');
  }

  /** What the agent has printed so far. */
  log(): string {
    return readFileSync(this.logFile, 'utf8');
  }

  get pid(): number {
    if (this.#successor !== undefined) return this.#successor.pid;
    if (this.#agent === undefined) throw new Error(`The agent of ${this.name} does not run`);
    return this.#agent.pid;
  }

  /** Whether the process that was replaced last is still there. */
  get isPredecessorAlive(): boolean {
    return this.#predecessor !== undefined && isAlive(this.#predecessor);
  }

  /** Starts the agent; what it is then ready for, the caller waits for. */
  launch({ through = [], env = {}, isGateway = false }: LaunchOptions = {}): Child {
    const role = isGateway ? ['gateway', '--egress'] : ['agent', 'run'];
    this.#agent = new Child({
      command: this.host.in(...through, picketBinary(), ...role, '--config', this.configFile),
      logFile: this.logFile,
      env,
    });
    return this.#agent;
  }

  /** Starts the agent and waits until it serves what it was given. */
  async start(options: LaunchOptions = {}): Promise<void> {
    await this.launch(options).ready(`the agent of ${this.name} is ready`, async () => await this.isReady());
  }

  /** A series of the agent's metrics. */
  async metric(series: string): Promise<number | undefined> {
    return await findMetric(this.host, METRICS_PORT, series);
  }

  /** What `picket doctor` finds on this host. */
  async examine(): Promise<Examination> {
    return new Examination(await this.picket(['doctor', '--role', 'agent', '--json']));
  }

  async isReady(): Promise<boolean> {
    const answer = await run(this.host.in('curl', '-sf', '-m', '2', 'http://127.0.0.1:15021/ready'));
    return answer.exitCode === 0;
  }

  /** Has another process take over from the agent. The one that was replaced ends by itself. */
  async upgrade(): Promise<UpgradeAnswer> {
    const before = lifeOf(this.pid);
    const answer = upgradeAnswer.parse(JSON.parse(await this.picketOk('agent', 'upgrade', '--json')));
    this.#predecessor = before;
    this.#successor = lifeOf(answer.pid);
    return answer;
  }

  /** Ends the agent: with SIGTERM it drains, with SIGKILL it dies. Its capture rules stay. */
  async stop(signal: NodeJS.Signals = 'SIGTERM'): Promise<number | null> {
    const successor = this.#successor;
    this.#successor = undefined;
    if (successor !== undefined) await endProcess(successor, signal);
    const exitCode = await this.#agent?.stop(signal);
    this.#agent = undefined;
    return exitCode ?? null;
  }

  /** The command line on this host; `uid` is who runs it, root if absent. */
  async picket(
    args: readonly string[],
    options: { readonly uid?: number; readonly env?: Readonly<Record<string, string>> } = {},
  ): Promise<RunResult> {
    return await run(this.host.in(...asUid(options.uid), picketBinary(), ...args), {
      env: { ...this.#environment(), ...options.env },
      cwd: '/',
    });
  }

  /** As `picket`, for what must succeed; what it printed. */
  async picketOk(...args: readonly string[]): Promise<string> {
    return await runOk(this.host.in(picketBinary(), ...args), {
      env: this.#environment(),
    });
  }

  #environment(): Readonly<Record<string, string>> {
    return { PICKET_AGENT_SOCKET: this.#adminSocket, PICKET_AGENT_CONFIG: this.configFile };
  }
}

/** Ends a process that is nobody's child here. */
async function endProcess(life: ProcessLife, signal: NodeJS.Signals): Promise<void> {
  if (!isAlive(life)) return;
  process.kill(life.pid, signal);
  await waitUntil(`${life.pid} has ended`, () => !isAlive(life));
}

function asUid(uid: number | undefined): readonly string[] {
  if (uid === undefined) return [];
  return ['setpriv', `--reuid=${uid}`, `--regid=${uid}`, '--clear-groups', '--'];
}

/** JSON is YAML. */
function configOf(
  options: MeshHostOptions,
  sockets: { readonly workloadApi: string; readonly admin: string },
): unknown {
  const { trust, attestation } = options;
  return {
    trust_domain: options.trustDomain,
    servers: [options.server],
    trust:
      'bundleFile' in trust ? { bundle_file: trust.bundleFile } : { root_key_sha256: trust.rootKeySha256 },
    attestation:
      attestation.type === 'tpm'
        ? { tpm: { device: attestation.address } }
        : { join_token: attestation.token },
    data_dir: join(options.folder, 'data'),
    sockets: { workload_api: sockets.workloadApi, admin: sockets.admin },
    log_level: 'debug',
    ...options.settings,
  };
}

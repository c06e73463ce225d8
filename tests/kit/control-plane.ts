import { createPrivateKey } from 'node:crypto';
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { z } from 'zod';
import { Child, run, runOk, type RunResult } from './child.ts';
import type { TestHost } from './netns.ts';
import { picketBinary } from './picket-binary.ts';
import { Examination, findMetric } from './witnesses.ts';

export interface ControlPlaneOptions {
  readonly host: TestHost;
  /** For the certificate authority, the server's data and its log. */
  readonly folder: string;
  readonly trustDomain: string;
  /** PostgreSQL; the embedded PGlite if absent. */
  readonly databaseUrl?: string;
  /** PEM files of TPM manufacturers. */
  readonly manufacturers?: { readonly roots: string; readonly intermediates: string };
  /** Settings beside these, by their names in server.yaml. */
  readonly serverSettings?: Readonly<Record<string, unknown>>;
}

const METRICS_PORT = 15_022;

/** `picket server` of a test on a host of its own, and the command line that operates it over its unix socket. */
export class ControlPlane {
  readonly host: TestHost;
  readonly folder: string;
  /** PEM of the trust bundle: what a host with a TPM is given. */
  readonly bundleFile: string;
  readonly socket: string;
  readonly configFile: string;
  readonly #options: ControlPlaneOptions;
  #server: Child | undefined;

  constructor(options: ControlPlaneOptions) {
    this.host = options.host;
    this.folder = options.folder;
    this.#options = options;
    this.bundleFile = join(options.folder, 'ca/root.pem');
    this.socket = join(options.folder, 'server.sock');
    this.configFile = join(options.folder, 'server.yaml');
    mkdirSync(options.folder, { recursive: true });
    this.#writeConfig(options.databaseUrl);
  }

  /** The offline ceremony: root, intermediate, policy signer. */
  async createAuthority(): Promise<void> {
    writeFileSync(this.#passphraseFile, 'a passphrase of a test\n', { mode: 0o600 });
    const { trustDomain } = this.#options;
    const where = ['--trust-domain', trustDomain, '--out', this.#authorityFolder];
    await this.picketOk('ca', 'init', ...where, '--passphrase-file', this.#passphraseFile);
  }

  /** The root as whoever holds it offline has it: to sign the authority of another mesh below it, as operators of Istio do. */
  readRoot(): { readonly certificatePem: string; readonly keyPkcs8: Uint8Array<ArrayBuffer> } {
    const read = (name: string): string => readFileSync(join(this.#authorityFolder, name), 'utf8');
    const passphrase = readFileSync(this.#passphraseFile, 'utf8').trimEnd();
    const key = createPrivateKey({ key: read('root.key'), passphrase });
    return {
      certificatePem: read('root.pem'),
      keyPkcs8: new Uint8Array(key.export({ type: 'pkcs8', format: 'der' })),
    };
  }

  /** Signs a new intermediate and a new policy signer, for the server's next start. */
  async renewAuthority(...options: readonly string[]): Promise<void> {
    const passphrase = ['--passphrase-file', this.#passphraseFile];
    await this.picketOk('ca', 'renew', this.#authorityFolder, ...passphrase, ...options);
  }

  async start({ env = {} }: { readonly env?: Readonly<Record<string, string>> } = {}): Promise<void> {
    const server = new Child({
      command: this.host.in(picketBinary(), 'server', 'run', '--config', this.configFile),
      logFile: this.logFile,
      env,
    });
    this.#server = server;
    await server.ready('the server answers', async () => {
      const answer = await run(['curl', '-sf', '--unix-socket', this.socket, 'http://picket/health']);
      return answer.exitCode === 0;
    });
  }

  get pid(): number {
    if (this.#server === undefined) throw new Error('The server does not run');
    return this.#server.pid;
  }

  get logFile(): string {
    return join(this.folder, 'server.log');
  }

  /** Ends the server: with SIGTERM it drains. */
  async stop(signal: NodeJS.Signals = 'SIGTERM'): Promise<number | null> {
    const exitCode = await this.#server?.stop(signal);
    this.#server = undefined;
    return exitCode ?? null;
  }

  /** The server's next start finds another database: that of a URL, or an empty embedded one. */
  changeDatabase(databaseUrl?: string): void {
    rmSync(join(this.folder, 'data/database'), { recursive: true, force: true });
    this.#writeConfig(databaseUrl);
  }

  /** The command line as root on the server's host. */
  async picket(...args: readonly string[]): Promise<RunResult> {
    return await run(this.host.in(picketBinary(), ...args), { env: this.#environment() });
  }

  /** As `picket`, for what must succeed; what it printed. */
  async picketOk(...args: readonly string[]): Promise<string> {
    return await runOk(this.host.in(picketBinary(), ...args), { env: this.#environment() });
  }

  /** As `picketOk`, with `--json`, read by `schema`. */
  async picketJson<T extends z.ZodType>(schema: T, ...args: readonly string[]): Promise<z.output<T>> {
    return schema.parse(JSON.parse(await this.picketOk(...args, '--json')));
  }

  /** What the server has printed so far. */
  log(): string {
    return readFileSync(this.logFile, 'utf8');
  }

  /** A series of the server's metrics. */
  async metric(series: string): Promise<number | undefined> {
    return await findMetric(this.host, METRICS_PORT, series);
  }

  /** What `picket doctor` finds on the server's host. */
  async examine(): Promise<Examination> {
    return new Examination(await this.picket('doctor', '--role', 'server', '--json'));
  }

  #writeConfig(databaseUrl: string | undefined): void {
    const { databaseUrl: _, ...options } = this.#options;
    const config = configOf(
      { ...options, ...(databaseUrl === undefined ? {} : { databaseUrl }) },
      this.socket,
    );
    writeFileSync(this.configFile, JSON.stringify(config, null, 2));
  }

  get #authorityFolder(): string {
    return join(this.folder, 'ca');
  }

  get #passphraseFile(): string {
    return join(this.folder, 'root.passphrase');
  }

  #environment(): Readonly<Record<string, string>> {
    return { PICKET_SOCKET: this.socket, PICKET_SERVER: '', PICKET_SERVER_CONFIG: this.configFile };
  }
}

/** JSON is YAML. */
function configOf(options: ControlPlaneOptions, socket: string): unknown {
  const { folder, manufacturers, databaseUrl, trustDomain, serverSettings } = options;
  return {
    trust_domain: trustDomain,
    ca: { directory: join(folder, 'ca/online') },
    data_dir: join(folder, 'data'),
    ...(databaseUrl === undefined ? {} : { database: { url: databaseUrl } }),
    listen: { agents: '0.0.0.0:8443', operators: '0.0.0.0:8444', socket },
    ...(manufacturers === undefined
      ? {}
      : {
          tpm: {
            manufacturer_roots: manufacturers.roots,
            manufacturer_intermediates: manufacturers.intermediates,
          },
        }),
    log_level: 'debug',
    ...serverSettings,
  };
}

import { chmodSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { Child, run, runOk, type RunResult } from './child.ts';
import type { TestHost } from './netns.ts';
import { isListening } from './programs.ts';
import { waitUntil } from './wait.ts';

/** Where Debian's sshd goes before somebody has logged in. */
const PRIVILEGE_SEPARATION = '/run/sshd';

/** OpenSSH on a host of a test, at which root logs in with a key. */
export class SshServer {
  readonly #host: TestHost;
  readonly #folder: string;
  readonly #port: number;
  readonly #sshd: Child;

  private constructor(host: TestHost, options: { readonly folder: string; readonly port: number }) {
    this.#host = host;
    this.#folder = options.folder;
    this.#port = options.port;
    this.#sshd = new Child({
      command: host.in('/usr/sbin/sshd', '-D', '-e', '-f', '/dev/null', ...this.#settings()),
      logFile: join(options.folder, 'sshd.log'),
    });
  }

  /** Starts it at a port, with keys of its own in `folder`. */
  static async start(
    host: TestHost,
    options: { readonly folder: string; readonly port: number },
  ): Promise<SshServer> {
    mkdirSync(options.folder, { recursive: true });
    mkdirSync(PRIVILEGE_SEPARATION, { recursive: true, mode: 0o755 });
    chmodSync(PRIVILEGE_SEPARATION, 0o755);
    for (const key of ['host_key', 'client_key'])
      await runOk(['ssh-keygen', '-q', '-t', 'ed25519', '-N', '', '-f', join(options.folder, key)]);
    const server = new SshServer(host, options);
    await server.#sshd.ready('sshd listens', async () => await isListening(host, options.port));
    return server;
  }

  /** One command in a session of its own, by IPv4 or IPv6. */
  async run(from: TestHost, command: string, family: 'ipv4' | 'ipv6' = 'ipv4'): Promise<RunResult> {
    return await run(from.in(...this.#client(family), command));
  }

  /** A session that stays open. */
  open(from: TestHost): SshSession {
    return new SshSession(from.in(...this.#client('ipv4'), 'bash', '--norc'));
  }

  async stop(): Promise<void> {
    await this.#sshd.stop();
  }

  #settings(): readonly string[] {
    const settings = [
      `Port=${this.#port}`,
      `HostKey=${join(this.#folder, 'host_key')}`,
      `AuthorizedKeysFile=${join(this.#folder, 'client_key.pub')}`,
      'StrictModes=no',
      'PidFile=none',
    ];
    return settings.flatMap((setting) => ['-o', setting]);
  }

  #client(family: 'ipv4' | 'ipv6'): readonly string[] {
    const settings = ['StrictHostKeyChecking=no', 'UserKnownHostsFile=/dev/null', 'ConnectTimeout=5'];
    const options = ['LogLevel=ERROR', 'BatchMode=yes', ...settings].flatMap((each) => ['-o', each]);
    const key = ['-F', 'none', '-i', join(this.#folder, 'client_key')];
    return ['ssh', ...key, ...options, '-p', `${this.#port}`, `root@${this.#host[family]}`];
  }
}

/** A shell on another host, which answers for as long as its connection lives. */
export class SshSession {
  readonly #ssh: Bun.Subprocess<'pipe', 'pipe', 'inherit'>;
  #printed = '';
  #asked = 0;

  constructor(command: readonly string[]) {
    this.#ssh = Bun.spawn([...command], { stdin: 'pipe', stdout: 'pipe', stderr: 'inherit' });
    void this.#read();
  }

  /** Runs a command in the shell; what it printed. */
  async ask(command: string): Promise<string> {
    const end = `end of ${++this.#asked}\n`;
    this.#printed = '';
    void this.#ssh.stdin.write(`${command}\necho '${end.trim()}'\n`);
    void this.#ssh.stdin.flush();
    await waitUntil('the shell answers', () => this.#printed.endsWith(end));
    return this.#printed.slice(0, -end.length);
  }

  async close(): Promise<void> {
    this.#ssh.kill();
    await this.#ssh.exited;
  }

  async #read(): Promise<void> {
    const decoder = new TextDecoder();
    for await (const chunk of this.#ssh.stdout) this.#printed += decoder.decode(chunk, { stream: true });
  }
}

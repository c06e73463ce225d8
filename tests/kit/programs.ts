import { chownSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Child, run, runOk, type RunResult } from './child.ts';
import type { TestHost } from './netns.ts';

/** Unmodified Debian programs on a host of a test: they know nothing of Picket. */

const POSTGRES_BIN = '/usr/lib/postgresql/15/bin';

/** A process of this user: the number is enough, no account is made. */
export function asUser(uid: number, ...command: readonly string[]): string[] {
  return ['setpriv', `--reuid=${uid}`, `--regid=${uid}`, '--clear-groups', '--', ...command];
}

/** The numeric ids of a system account that a Debian package made. */
export function accountOf(name: string): { readonly uid: number; readonly gid: number } {
  const line = readFileSync('/etc/passwd', 'utf8')
    .split('\n')
    .find((text) => text.startsWith(`${name}:`));
  const [, , uid, gid] = line?.split(':') ?? [];
  if (uid === undefined || gid === undefined) throw new Error(`There is no account ${name} on this machine`);
  return { uid: Number(uid), gid: Number(gid) };
}

export interface NginxOptions {
  readonly folder: string;
  readonly locations: string;
  /** As nginx's `listen` takes them; port 80 of both families if absent. */
  readonly listen?: readonly string[];
  readonly accessLog?: boolean;
  /** At once; 1024 if absent. */
  readonly connections?: number;
}

/** nginx with its workers as www-data. `locations` are nginx `location` blocks. */
export async function startNginx(host: TestHost, options: NginxOptions): Promise<Child> {
  mkdirSync(options.folder, { recursive: true });
  const { uid, gid } = accountOf('www-data');
  chownSync(options.folder, uid, gid);
  const listen = options.listen ?? ['80', '[::]:80'];
  const config = join(options.folder, 'nginx.conf');
  rmSync(ownSocketOf(options.folder), { force: true });
  writeFileSync(
    config,
    `daemon off; user www-data; worker_processes 1; pid ${options.folder}/nginx.pid; error_log ${options.folder}/error.log;
events { worker_connections ${options.connections ?? 1024}; }
http {
  access_log ${options.accessLog === false ? 'off' : `${options.folder}/access.log`}; client_max_body_size 0;
  client_body_temp_path ${options.folder}/body; proxy_temp_path ${options.folder}/proxy; fastcgi_temp_path ${options.folder}/fastcgi;
  uwsgi_temp_path ${options.folder}/uwsgi; scgi_temp_path ${options.folder}/scgi;
  server { listen unix:${ownSocketOf(options.folder)}; access_log off; location / { return 204; } }
  server { ${listen.map((address) => `listen ${address};`).join(' ')} ${options.locations} }
}
`,
  );
  const nginx = new Child({
    command: host.in('/usr/sbin/nginx', '-c', config, '-p', options.folder),
    logFile: join(options.folder, 'nginx.log'),
  });
  // Its worker is started when it listens everywhere.
  await nginx.ready('nginx answers', async () => (await run(ownQuestion(options.folder))).exitCode === 0);
  return nginx;
}

/** Where the test itself asks nginx. */
function ownSocketOf(folder: string): string {
  return join(folder, 'own.sock');
}

/** The command that asks it there; it fails until nginx answers. */
function ownQuestion(folder: string): readonly string[] {
  return ['curl', '-sf', '-m', '20', '--unix-socket', ownSocketOf(folder), 'http://nginx/'];
}

/**
 * The lines that an nginx of `startNginx` has written of its requests. Its one worker writes a line behind the answer: a client can have the one before the other is written. What it answers us, it
 * answers behind all of that.
 */
export async function readAccessLog(folder: string): Promise<readonly string[]> {
  await runOk(ownQuestion(folder));
  return readFileSync(join(folder, 'access.log'), 'utf8').split('\n').slice(0, -1);
}

/** PostgreSQL as its own account; every role of the cluster may come in over TCP without a password, so that only Picket decides. */
export async function startPostgres(
  host: TestHost,
  options: { readonly folder: string; readonly sql: string },
): Promise<Child> {
  mkdirSync(options.folder, { recursive: true });
  const { uid, gid } = accountOf('postgres');
  chownSync(options.folder, uid, gid);
  const data = join(options.folder, 'data');
  const as = (...command: string[]): string[] => [
    'setpriv',
    `--reuid=${uid}`,
    `--regid=${gid}`,
    '--init-groups',
    '--',
    ...command,
  ];
  await runOk(as(`${POSTGRES_BIN}/initdb`, '-D', data, '-A', 'trust', '-U', 'postgres', '--no-sync'), {
    cwd: '/',
  });
  writeFileSync(
    join(data, 'pg_hba.conf'),
    'local all all trust\nhost all all 0.0.0.0/0 trust\nhost all all ::/0 trust\n',
  );
  const settings = [
    'listen_addresses=*',
    'port=5432',
    `unix_socket_directories=${options.folder}`,
    'fsync=off',
  ];
  const postgres = new Child({
    command: host.in(
      ...as(`${POSTGRES_BIN}/postgres`, '-D', data, ...settings.flatMap((setting) => ['-c', setting])),
    ),
    logFile: join(options.folder, 'postgres.log'),
    cwd: '/',
  });
  const psql = host.in(
    ...as(`${POSTGRES_BIN}/psql`, '-h', options.folder, '-U', 'postgres', '-v', 'ON_ERROR_STOP=1', '-q'),
  );
  await postgres.ready(
    'PostgreSQL answers',
    async () => (await run([...psql, '-c', 'select 1'])).exitCode === 0,
  );
  await runOk(psql, { stdin: options.sql });
  return postgres;
}

/** The command of one psql query over TCP as `uid`. Debian's `psql` is a wrapper: the real executable is run. */
export function psqlCommand(
  host: TestHost,
  options: { readonly uid: number; readonly server: string; readonly sql: string },
): readonly string[] {
  const connection = `host=${options.server} user=postgres dbname=postgres connect_timeout=10`;
  return host.in(...asUser(options.uid, `${POSTGRES_BIN}/psql`, '-At', '-c', options.sql, connection));
}

/** One psql query, to its end. */
export async function psql(
  host: TestHost,
  options: {
    readonly uid: number;
    readonly server: string;
    readonly sql: string;
    /** How long it may take; 20 s unless given. */
    readonly withinMs?: number;
  },
): Promise<RunResult> {
  return await run(psqlCommand(host, options), { cwd: '/', withinMs: options.withinMs ?? 20_000 });
}

export interface CurlAnswer {
  /** 0 when there was no HTTP answer. */
  readonly status: number;
  readonly body: string;
  readonly exitCode: number;
  readonly error: string;
}

/** For a curl that does not end by its own `--max-time`: longer than any that a test gives it. */
export const HANGING_MS = 150_000;

/** One request by curl as `uid`; it takes 10 s at most, unless `args` say otherwise. */
export async function curl(
  host: TestHost,
  options: { readonly uid: number; readonly args: readonly string[] },
): Promise<CurlAnswer> {
  const command = asUser(
    options.uid,
    'curl',
    '-sS',
    '--max-time',
    '10',
    '-w',
    '\n%{http_code}',
    ...options.args,
  );
  const { stdout, stderr, exitCode } = await run(host.in(...command), { cwd: '/', withinMs: HANGING_MS });
  const end = stdout.lastIndexOf('\n');
  return {
    status: Number(stdout.slice(end + 1)),
    body: stdout.slice(0, Math.max(0, end)),
    exitCode,
    error: stderr.trim(),
  };
}

/** Whether something listens at `port` in the host's network. */
export async function isListening(host: TestHost, port: number): Promise<boolean> {
  const { stdout } = await run(host.in('ss', '-Hltn', `sport = :${port}`));
  return stdout.trim() !== '';
}

import { randomBytes } from 'node:crypto';
import { chownSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import postgres from 'postgres';
import { Child, run, runOk } from './child.ts';
import { freePort } from './free-port.ts';
import type { TestHost } from './netns.ts';

const BIN = '/usr/lib/postgresql/15/bin';
/** PostgreSQL refuses to run as uid 0. The signal comes when the test process dies, however it dies; SIGINT is its fast shutdown. */
const AS_POSTGRES = ['setpriv', '--reuid=postgres', '--regid=postgres', '--init-groups', '--pdeathsig=INT'];

/** As `pg_ctl stop -m`: `immediate` is a crash, after which it recovers from its log. */
export type StopMode = 'fast' | 'immediate';

/** A PostgreSQL of a test's own, on a loopback port. */
export interface TestPostgres {
  /** URL of its database `postgres`, as superuser. */
  readonly url: string;
  /** Stops it and starts it again on the same port and data; every connection is lost. */
  restart(mode?: StopMode): Promise<void>;
  /** As `restart`, with `work` done before it is started again. */
  whileStopped(work: () => Promise<void>, mode?: StopMode): Promise<void>;
  stop(): Promise<void>;
}

/** Starts a cluster in a folder of its own, as the user that Debian made for it, on `host` where one is given. The caller stops it. */
export async function startPostgres(host?: TestHost): Promise<TestPostgres> {
  const on = (...command: string[]): string[] => host?.in(...command) ?? command;
  const folder = mkdtempSync(join(tmpdir(), 'picket-postgres-'));
  const { uid, gid } = await postgresUser();
  const data = join(folder, 'data');
  mkdirSync(data, { mode: 0o700 });
  for (const path of [folder, data]) chownSync(path, uid, gid);
  await runOk([
    ...AS_POSTGRES,
    `${BIN}/initdb`,
    `--pgdata=${data}`,
    '--username=picket',
    '--auth=trust',
    '--encoding=UTF8',
    '--no-sync',
  ]);
  const port = freePort();
  const url = `postgres://picket@127.0.0.1:${port}/postgres`;
  const command = on(
    ...AS_POSTGRES,
    `${BIN}/postgres`,
    '-D',
    data,
    '--listen_addresses=127.0.0.1',
    `--port=${port}`,
    `--unix_socket_directories=${folder}`,
    '--fsync=off',
    '--max_connections=100',
    '--shared_buffers=32MB',
  );
  const start = async (): Promise<Child> => {
    const child = new Child({ command, logFile: join(folder, 'log') });
    await child.ready('PostgreSQL answers', async () => {
      const isReady = on(`${BIN}/pg_isready`, '--host=127.0.0.1', `--port=${port}`);
      return (await run(isReady)).exitCode === 0;
    });
    return child;
  };
  let child = await start();
  const whileStopped = async (work: () => Promise<void>, mode: StopMode = 'fast'): Promise<void> => {
    await child.stop(mode === 'fast' ? 'SIGINT' : 'SIGQUIT');
    try {
      await work();
    } finally {
      child = await start();
    }
  };
  return {
    url,
    restart: async (mode) => await whileStopped(async () => undefined, mode),
    whileStopped,
    async stop() {
      await child.stop('SIGINT');
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

/** A new, empty database of a random name. */
export interface TestDatabase {
  readonly url: string;
  /** Removes it, with whoever is still connected. */
  drop(): Promise<void>;
}

/** Makes a database in the PostgreSQL of PICKET_TEST_DATABASE_URL, or else in one that is started for it and stopped with it. */
export async function createTestDatabase(): Promise<TestDatabase> {
  const given = process.env['PICKET_TEST_DATABASE_URL'];
  const own = given === undefined ? await startPostgres() : undefined;
  const server = given ?? own?.url ?? '';
  const name = `picket_${randomBytes(8).toString('hex')}`;
  await asAdministrator(server, `create database ${name}`);
  const url = new URL(server);
  url.pathname = `/${name}`;
  return {
    url: url.href,
    async drop() {
      if (own === undefined) await asAdministrator(server, `drop database if exists ${name} with (force)`);
      await own?.stop();
    },
  };
}

async function asAdministrator(url: string, statement: string): Promise<void> {
  const client = postgres(url, { max: 1, connect_timeout: 5 });
  try {
    await client.unsafe(statement);
  } finally {
    await client.end({ timeout: 5 });
  }
}

async function postgresUser(): Promise<{ readonly uid: number; readonly gid: number }> {
  const fields = (await runOk(['getent', 'passwd', 'postgres'])).trim().split(':');
  return { uid: Number(fields[2]), gid: Number(fields[3]) };
}

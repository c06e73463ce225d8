import { afterAll, beforeAll, describe, expect, test } from 'bun:test';
import { connect, createServer, type Socket } from 'node:net';
import { sql } from 'drizzle-orm';
import { z } from 'zod';
import { parseTrustDomain } from '../../shared/spiffe/trust-domain.ts';
import { openTestPostgres, silentLog, TEST_TRUST_DOMAIN } from '../../tests/kit/datastore.ts';
import { startPostgres, type TestPostgres } from '../../tests/kit/postgres.ts';
import { waitUntil } from '../../tests/kit/wait.ts';
import { describeDatastore } from './contract.ts';
import { openPostgres } from './postgres.ts';
import { rowsOf } from './rows.ts';

describeDatastore('PostgreSQL', openTestPostgres);

describe('openPostgres()', () => {
  let server: TestPostgres;
  beforeAll(async () => {
    server = await startPostgres();
  });
  afterAll(async () => {
    await server.stop();
  });
  const open = (options: { readonly url?: string; readonly trustDomain?: string } = {}) =>
    openPostgres({
      url: options.url ?? server.url,
      trustDomain:
        options.trustDomain === undefined ? TEST_TRUST_DOMAIN : parseTrustDomain(options.trustDomain),
      log: silentLog,
    });

  test('migrates once when several servers start at the same time', async () => {
    const datastores = await Promise.all([open(), open(), open()]);
    const epochs = new Set<string>();
    for (const datastore of datastores) epochs.add((await datastore.position()).epoch);
    expect(epochs.size).toBe(1);
    await Promise.all(datastores.map((datastore) => datastore.close()));
  });

  test('one server hears of a commit of another, also after the database was restarted', async () => {
    const [writer, reader] = await Promise.all([open(), open()]);
    let heard = 0;
    reader.onChange(() => (heard += 1));
    const change = () => writer.write(async ({ changed }) => changed({ kind: 'entry', key: 'k' }));
    await change();
    await waitUntil('the other server heard', () => heard > 0);
    // The reader may be connected again before the restart is over here.
    const before = heard;
    await server.restart();
    await waitUntil('the lost connection counts as a change', () => heard > before);
    const afterRestart = heard;
    await waitUntil('writing works again', () => change().then(() => true));
    await waitUntil('the other server heard again', () => heard > afterRestart);
    await Promise.all([writer.close(), reader.close()]);
  });

  test('write() repeats a transaction that fell to a deadlock', async () => {
    const datastore = await open();
    await datastore.write(async ({ db }) => {
      await db.execute(sql`create table pair (id int primary key, n int not null)`);
      await db.execute(sql`insert into pair values (1, 0), (2, 0)`);
    });
    let attempts = 0;
    let arrived = 0;
    const both = Promise.withResolvers<void>();
    const inOrder = (first: number, second: number) =>
      datastore.write(async ({ db }) => {
        attempts += 1;
        await db.execute(sql`update pair set n = n + 1 where id = ${first}`);
        arrived += 1;
        if (arrived === 2) both.resolve();
        await both.promise;
        await db.execute(sql`update pair set n = n + 1 where id = ${second}`);
      });
    await Promise.all([inOrder(1, 2), inOrder(2, 1)]);
    // On a busy machine the repeated one may meet the other again.
    expect(attempts).toBeGreaterThan(2);
    const rows = rowsOf(await datastore.db.execute(sql`select n from pair`));
    expect(Array.from(rows)).toEqual([{ n: 2 }, { n: 2 }]);
    await datastore.close();
  });

  test('is there again as soon as the database is, however often that was stopped under load', async () => {
    const datastore = await open();
    const waits: number[] = [];
    const over = new AbortController();
    const ask = async (): Promise<void> => {
      while (!over.signal.aborted) {
        const startedMs = performance.now();
        await datastore.position().catch(() => Bun.sleep(10));
        waits.push(performance.now() - startedMs);
      }
    };
    const asking = Array.from({ length: 6 }, ask);
    for (const mode of ['fast', 'immediate', 'fast', 'fast', 'immediate', 'fast'] as const) {
      await server.restart(mode);
      await waitUntil('it answers', async () => {
        await datastore.position();
        return true;
      });
    }
    over.abort();
    await Promise.all(asking);
    // A connection that is never told of again is given up after ten seconds.
    expect(Math.max(...waits)).toBeLessThan(9000);
    await datastore.close();
  });

  test('a transaction whose connection was lost does nothing more, least of all outside of it', async () => {
    const [datastore, other] = await Promise.all([open(), open()]);
    await datastore.db.execute(sql`create table stray (n int not null)`);
    const rest = Promise.withResolvers<unknown>();
    const transaction = datastore.write(async ({ db }) => {
      await db.execute(sql`insert into stray values (1)`);
      const [own] = rowsOf<{ pid: number }>(await db.execute(sql`select pg_backend_pid() as pid`));
      await other.db.execute(sql`select pg_terminate_backend(${own?.pid}::int)`);
      // Every connection of the pool is in use again, also the one that was lost.
      await Promise.all(
        Array.from({ length: 30 }, async () => {
          await datastore.db.execute(sql`select pg_sleep(0.05)`);
        }),
      );
      rest.resolve(
        await db.execute(sql`insert into stray values (2)`).then(
          () => 'done',
          () => 'refused',
        ),
      );
    });
    const refusal = await transaction.then(
      () => undefined,
      (error: unknown) => error,
    );
    expect(refusal).toMatchObject({ code: 'unavailable', reason: 'database_unavailable' });
    expect(await rest.promise).toBe('refused');
    expect(Array.from(rowsOf(await other.db.execute(sql`select n from stray`)))).toEqual([]);
    await Promise.all([datastore.close(), other.close()]);
  });

  test('what ended a connection fails nothing that is asked on the one in its place', async () => {
    const datastore = await open();
    const ask = async (): Promise<unknown> => await datastore.db.execute(sql`select 1`);
    // Each ends the connection that carries it: all of the pool.
    const ended = await Promise.allSettled(
      Array.from({ length: 30 }, async () => {
        await datastore.db.execute(sql`select pg_terminate_backend(pg_backend_pid()), pg_sleep(1)`);
      }),
    );
    expect(ended.map(({ status }) => status)).not.toContain('fulfilled');
    await Promise.all(Array.from({ length: 30 }, ask));
    await datastore.close();
  });

  test('a connection that is reset within a transaction keeps nobody waiting who asks on the next one', async () => {
    const { hostname, port } = new URL(server.url);
    const relayed = new Set<Socket>();
    const relay = createServer((client) => {
      const upstream = connect(Number(port), hostname);
      relayed.add(client);
      client.on('error', () => upstream.destroy()).on('close', () => upstream.destroy());
      upstream.on('error', () => client.destroy());
      client.pipe(upstream).pipe(client);
    });
    await new Promise<void>((resolve) => void relay.listen(0, '127.0.0.1', resolve));
    const address = z.object({ port: z.number() }).parse(relay.address());
    const datastore = await open({ url: `postgres://picket@127.0.0.1:${address.port}/postgres` });
    for (let round = 0; round < 3; round++) {
      const refusal = await datastore
        .write(async ({ db }) => {
          const asked = db.execute(sql`select pg_sleep(10)`);
          for (const socket of relayed) socket.resetAndDestroy();
          relayed.clear();
          await asked;
        })
        .catch((error: unknown) => error);
      expect(refusal).toMatchObject({ reason: 'database_unavailable' });
      const askAll = async (): Promise<unknown> =>
        await Promise.all(Array.from({ length: 20 }, async () => await datastore.position()));
      // Connections of which nobody knows yet that they were reset.
      await waitUntil('all answer', async () => await askAll().then(() => true));
      await askAll();
      await askAll();
    }
    await datastore.close();
    relay.close();
  });

  test('refuses the database of another trust domain', async () => {
    expect(open({ trustDomain: 'other.example' })).rejects.toMatchObject({
      code: 'failed_precondition',
      reason: 'trust_domain_mismatch',
    });
  });

  test('refuses a database that a newer version has migrated', async () => {
    const datastore = await open();
    await datastore.db.execute(sql`insert into schema_migrations (id, digest) values ('9999_future', 'x')`);
    const second = await open().then(
      () => undefined,
      (error: unknown) => error,
    );
    expect(second).toMatchObject({ code: 'failed_precondition', reason: 'schema_newer' });
    await datastore.db.execute(sql`delete from schema_migrations where id = '9999_future'`);
    await datastore.close();
  });

  test('says so where somebody takes connections and closes them', async () => {
    const closing = Bun.listen({
      hostname: '127.0.0.1',
      port: 0,
      socket: { open: (socket) => void socket.end(), data: () => undefined },
    });
    const refusal = await open({ url: `postgres://picket@127.0.0.1:${closing.port}/none` }).then(
      () => undefined,
      (error: unknown) => error,
    );
    expect(refusal).toMatchObject({ code: 'unavailable', reason: 'database_unavailable' });
    closing.stop(true);
  });

  test('says that no database answers', async () => {
    expect(open({ url: 'postgres://picket@127.0.0.1:1/none' })).rejects.toMatchObject({
      code: 'unavailable',
      reason: 'database_unavailable',
    });
    expect(open({ url: 'mysql://secret@host/x' })).rejects.toMatchObject({
      code: 'invalid_argument',
      reason: 'database_url_invalid',
    });
  });
});

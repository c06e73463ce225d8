import { beforeEach, describe, expect, test } from 'bun:test';
import { createLog } from '../../shared/runtime/log.ts';
import type { Database, Datastore } from './datastore.ts';
import { WatchedDatastore } from './watched-datastore.ts';

const database = {} as Database;

/** Something that postgres.js throws. */
const failureOf = (code: string): Error => Object.assign(new Error(code), { code });

let failure: Error | undefined;
let events: string[];
let watched: WatchedDatastore;

beforeEach(() => {
  failure = undefined;
  events = [];
  const write = (line: string): void => {
    const { event, direction, reason } = JSON.parse(line) as Readonly<Record<string, string>>;
    events.push([event, direction, reason].filter((part) => part !== undefined).join(' '));
  };
  watched = new WatchedDatastore(new Inner(), createLog({ level: 'info', nowMs: () => 0, write }));
});

/** Reads, and writes unless `failure` is of a full disk. */
class Inner implements Datastore {
  readonly db = database;

  write<T>(): Promise<T> {
    return failure === undefined ? Promise.resolve(undefined as T) : Promise.reject(failure);
  }

  readSnapshot<T>(work: (db: Database) => Promise<T>): Promise<T> {
    return this.#read(work);
  }

  onChange(): () => void {
    return () => undefined;
  }

  position(): Promise<{ epoch: string; sequence: number }> {
    return this.#read(() => Promise.resolve({ epoch: 'e', sequence: 1 }));
  }

  beginEpoch(): Promise<string> {
    return this.write();
  }

  close(): Promise<void> {
    return Promise.resolve();
  }

  #read<T>(work: (db: Database) => Promise<T>): Promise<T> {
    const canRead = failure === undefined || ('code' in failure && failure.code === '53100');
    return canRead ? work(database) : Promise.reject(failure ?? new Error());
  }
}

const write = async (): Promise<unknown> => await watched.write(() => Promise.resolve());

describe('WatchedDatastore', () => {
  test('says once that the database went away, and once that it is back', async () => {
    failure = failureOf('ECONNREFUSED');
    for (let i = 0; i < 3; i++)
      expect(watched.position()).rejects.toMatchObject({ reason: 'database_unavailable' });
    expect(watched.check()).rejects.toMatchObject({ reason: 'database_unavailable' });
    await Promise.resolve();
    expect(watched.failure?.reason).toBe('database_unavailable');
    failure = undefined;
    expect((await watched.check()).sequence).toBe(1);
    expect(watched.failure).toBeUndefined();
    expect(events).toEqual(['database_failed read database_unavailable', 'database_recovered read']);
  });

  test('knows of a full disk although the database can be read, until it can be written again', async () => {
    failure = failureOf('53100');
    expect(write()).rejects.toMatchObject({ reason: 'database_full' });
    expect(watched.check()).rejects.toMatchObject({ reason: 'database_full' });
    expect(await watched.readSnapshot(() => Promise.resolve(7))).toBe(7);
    expect(watched.failure?.reason).toBe('database_full');
    failure = undefined;
    await watched.check();
    expect(watched.failure).toBeUndefined();
    expect(events).toEqual(['database_failed write database_full', 'database_recovered write']);
  });

  test('does not take the mistake of a caller for a failure of the database', async () => {
    failure = failureOf('22021');
    expect(write()).rejects.toMatchObject({ reason: 'text_not_storable' });
    await Promise.resolve();
    expect([watched.failure, events]).toEqual([undefined, []]);
  });
});

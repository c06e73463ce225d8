import { randomUUID } from 'node:crypto';
import { open, unlink } from 'node:fs/promises';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import type { z } from 'zod';
import { serverHealth } from '../../../../shared/protocol/operator.ts';
import { writeBackup } from '../../../datastore/backup.ts';
import type { Datastore } from '../../../datastore/datastore.ts';
import { jsonAnswer, ownAnswer } from '../../answer.ts';
import type { OperatorCaller } from '../../caller.ts';
import type { Route } from '../../route.ts';
import { defineOperatorRoute } from './define.ts';

const TAG = 'server';
const BACKUP_MEDIA = 'application/x-ndjson';

/** What the server says of itself. */
export type ReadHealth = () => Promise<z.input<typeof serverHealth>>;

export interface ServerRouteOptions {
  readonly readHealth: ReadHealth;
  readonly datastore: Datastore;
  /** Where a backup stands before it is sent. */
  readonly temporaryDirectory: string;
}

/** The server itself: how it is, and its backup. */
export function serverRoutes(options: ServerRouteOptions): readonly Route<OperatorCaller>[] {
  return [
    defineOperatorRoute({
      method: 'GET',
      path: '/health',
      action: 'health.read',
      tag: TAG,
      summary: 'How the server is',
      answer: jsonAnswer(serverHealth),
      handle: async () => await options.readHealth(),
    }),
    defineOperatorRoute({
      method: 'POST',
      path: '/backup',
      action: 'backup.create',
      tag: TAG,
      summary: 'A backup of one moment, as lines of JSON; keys of the certificate authority are not in it',
      answer: ownAnswer({
        mediaType: BACKUP_MEDIA,
        description: 'Lines of JSON; the last one is a checksum',
      }),
      timeoutMs: 0,
      handle: async (_input, { signal }) =>
        new Response(await streamBackup(options, signal), { headers: { 'content-type': BACKUP_MEDIA } }),
    }),
  ];
}

/**
 * The backup is written aside first: a client that reads slowly must not hold a snapshot of the database, which for the embedded one is the
 * database itself. A backup that is cut off on its way has no last line, and restoring it is refused.
 */
async function streamBackup(
  options: ServerRouteOptions,
  signal: AbortSignal,
): Promise<ReadableStream<Uint8Array>> {
  const path = join(options.temporaryDirectory, `backup-${randomUUID()}`);
  const file = await open(path, 'wx+', 0o600);
  try {
    // Without a name it goes when it is closed, whatever happens.
    await unlink(path);
    await writeBackup(options.datastore, async (line) => {
      signal.throwIfAborted();
      await file.write(`${line}\n`);
    });
    return Readable.toWeb(file.createReadStream({ start: 0 })) as ReadableStream<Uint8Array>;
  } catch (error) {
    await file.close();
    throw error;
  }
}

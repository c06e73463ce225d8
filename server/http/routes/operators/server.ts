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

/** The server itself: how it is, and its backup. */
export function serverRoutes(options: {
  readonly readHealth: ReadHealth;
  readonly datastore: Datastore;
}): readonly Route<OperatorCaller>[] {
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
      handle: (_input, { signal }) =>
        new Response(streamBackup(options.datastore, signal), { headers: { 'content-type': BACKUP_MEDIA } }),
    }),
  ];
}

/** Read only as fast as the client takes it. A backup that is cut off has no last line, and restoring it is refused. */
function streamBackup(datastore: Datastore, signal: AbortSignal): ReadableStream<Uint8Array> {
  const lines = new TransformStream<Uint8Array, Uint8Array>();
  const writer = lines.writable.getWriter();
  const encoder = new TextEncoder();
  const run = async (): Promise<void> => {
    try {
      await writeBackup(datastore, async (line) => {
        signal.throwIfAborted();
        await writer.ready;
        await writer.write(encoder.encode(`${line}\n`));
      });
      await writer.close();
    } catch (error) {
      await writer.abort(error);
    }
  };
  void run().catch(() => undefined);
  return lines.readable;
}

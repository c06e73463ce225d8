import type { Command } from 'commander';
import { z } from 'zod';
import { PicketError } from '../shared/errors/errors.ts';
import { createOutput, type Output } from './output.ts';
import { ServerClient, type ServerTarget } from './server-client.ts';

/** What a command works with: the server, and where results go. */
export interface Session {
  readonly output: Output;
  readonly client: ServerClient;
}

export const DEFAULT_SERVER_SOCKET = '/run/picket-server/server.sock';

/** An empty variable is one that is not set. */
const optionalText = z
  .string()
  .optional()
  .transform((text) => (text === '' ? undefined : text));

const globalOptions = z.object({
  json: z.boolean().default(false),
  server: optionalText,
  socket: optionalText,
  cert: optionalText,
  key: optionalText,
  ca: optionalText,
});

/** The session that the global options and their PICKET_* variables ask for. */
export function openSession(command: Command): Session {
  const options = globalOptions.parse(command.optsWithGlobals());
  return { output: outputOf(command), client: new ServerClient(targetOf(options)) };
}

/** For commands that need no server. */
export function outputOf(command: Command): Output {
  const { json } = globalOptions.parse(command.optsWithGlobals());
  return createOutput(json, {
    out: (text) => process.stdout.write(text),
    err: (text) => process.stderr.write(text),
  });
}

function targetOf(options: z.output<typeof globalOptions>): ServerTarget {
  const { server, socket, cert, key, ca } = options;
  if (server === undefined) return { kind: 'socket', path: socket ?? DEFAULT_SERVER_SOCKET };
  if (socket !== undefined)
    throw new PicketError('invalid_argument', 'contradiction', 'Give --server or --socket, not both');
  if (cert === undefined || key === undefined || ca === undefined) {
    throw new PicketError(
      'invalid_argument',
      'certificate_missing',
      '--server needs --cert, --key and --ca (see: picket operator create --help)',
    );
  }
  if (!server.startsWith('https://'))
    throw new PicketError(
      'invalid_argument',
      'url_invalid',
      `--server must be an https URL, such as https://server:8444; got "${server}"`,
    );
  return { kind: 'https', url: server, certFile: cert, keyFile: key, caFile: ca };
}

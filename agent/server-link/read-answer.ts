import type { z } from 'zod';
import { PicketError } from '../../shared/errors/errors.ts';
import { errorOfProblem } from '../../shared/protocol/problem.ts';
import type { ServerConnection, ServerRequest, ServerResponse } from './connection.ts';

/** The largest answer that is read into memory unless a caller says otherwise. */
export const MAX_ANSWER_BYTES = 16 * 1024 * 1024;

/** Sends a request and reads its JSON answer by `schema`. Throws what the server's problem document says, or `unavailable`, reason `bad_answer`. */
export async function requestJson<T>(
  connection: ServerConnection,
  request: ServerRequest,
  schema: z.ZodType<T>,
): Promise<T> {
  const bytes = await requestBytes(connection, request);
  const parsed = schema.safeParse(parseJson(bytes));
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  throw badAnswer(`${request.path}: ${issue?.path.join('.') ?? ''} ${issue?.message ?? ''}`);
}

/** Sends a request and reads the body of its answer. Throws what the server's problem document says. */
export async function requestBytes(
  connection: ServerConnection,
  request: ServerRequest,
  maxBytes = MAX_ANSWER_BYTES,
): Promise<Buffer> {
  const response = await connection.send(request);
  return await readAnswer(response, maxBytes);
}

/** Reads the body of a successful answer, or throws the problem that it tells of. */
export async function readAnswer(response: ServerResponse, maxBytes = MAX_ANSWER_BYTES): Promise<Buffer> {
  const bytes = await collect(response, maxBytes);
  if (response.status >= 200 && response.status < 300) return bytes;
  throw errorOfProblem(parseJson(bytes), response.status);
}

async function collect(response: ServerResponse, maxBytes: number): Promise<Buffer> {
  const chunks: Uint8Array[] = [];
  let size = 0;
  for await (const chunk of response.body) {
    size += chunk.length;
    if (size > maxBytes) throw badAnswer(`it is longer than ${maxBytes} bytes`);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}

function parseJson(bytes: Buffer): unknown {
  try {
    return JSON.parse(bytes.toString('utf8')) as unknown;
  } catch {
    return undefined;
  }
}

function badAnswer(why: string): PicketError {
  return new PicketError('unavailable', 'bad_answer', `Cannot read the server's answer: ${why}`);
}

import { z } from 'zod';

/** One request of the load, as its client saw it. */
export interface SeenRequest {
  readonly path: string;
  /** Of its client; undefined where it was not connected. */
  readonly port?: number;
  /** Milliseconds since 1970. */
  readonly begunMs: number;
  readonly endedMs: number;
  /** A status, or what went wrong. */
  readonly answer: string;
}

/** When something was in the way; what was asked meanwhile may fail. */
export interface Excused {
  readonly fromMs: number;
  readonly untilMs: number;
}

const line = z.object({
  path: z.string(),
  port: z.number().optional(),
  begun: z.number(),
  ended: z.number(),
  status: z.number().optional(),
  error: z.string().optional(),
});

/** Reads what the load has printed. */
export function readRequests(text: string): readonly SeenRequest[] {
  return text
    .split('\n')
    .filter((each) => each.startsWith('{'))
    .map((each) => {
      const { path, port, begun, ended, status, error } = line.parse(JSON.parse(each));
      const times = { begunMs: begun * 1000, endedMs: ended * 1000 };
      return { path, ...(port === undefined ? {} : { port }), ...times, answer: String(status ?? error) };
    });
}

/** Requests that neither got an answer that they may get nor were in the way of a disturbance. */
export function findLost(
  requests: readonly SeenRequest[],
  excused: readonly Excused[],
): readonly SeenRequest[] {
  return requests.filter(
    (request) =>
      !isAnswered(request) &&
      !excused.some(({ fromMs, untilMs }) => request.begunMs <= untilMs && request.endedMs >= fromMs),
  );
}

/** What is below /flip is allowed by one policy and denied by the next, which cuts what is under way; the rest is always allowed. */
export function isAnswered({ path, answer }: SeenRequest): boolean {
  const isRefused = answer === '403' || answer.startsWith('ConnectionResetError');
  return answer === '200' || (isRefused && path.startsWith('/flip/'));
}

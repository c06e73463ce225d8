import { STATUS_CODES } from 'node:http';
import type { Judgement } from '../judge/judge.ts';

/** How a refusal is answered over HTTP. */
export interface DenialOptions {
  readonly status: number;
  /** Whether the connection ends after it. */
  readonly closes: boolean;
  /** An answer to HEAD has no body. */
  readonly isHead: boolean;
}

/** What the answer to a refused request says, in every version of HTTP: JSON with the decision's id, its reason, and one sentence. */
export function buildDenialBody({ decisionId, verdict }: Judgement): string {
  return `${JSON.stringify({ error: 'denied', decision_id: decisionId, reason: verdict.reason, message: verdict.message })}\n`;
}

/** The whole HTTP/1.1 answer to a request that was refused. */
export function buildDenialResponse(judgement: Judgement, options: DenialOptions): Uint8Array {
  const { status, closes, isHead } = options;
  const body = buildDenialBody(judgement);
  const head = [
    `HTTP/1.1 ${status} ${STATUS_CODES[status] ?? 'Denied'}`,
    'content-type: application/json',
    `content-length: ${Buffer.byteLength(body)}`,
    'cache-control: no-store',
    'server: picket',
    ...(closes ? ['connection: close'] : []),
  ];
  return Buffer.from(`${head.join('\r\n')}\r\n\r\n${isHead ? '' : body}`);
}

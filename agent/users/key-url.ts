import http, { type IncomingMessage } from 'node:http';
import https from 'node:https';
import { PicketError } from '../../shared/errors/errors.ts';
import { KEY_SOURCE_LIMITS, type KeySource } from './key-source.ts';

export interface KeyUrlOptions {
  readonly url: URL;
  /** Makes the connections. */
  readonly agent: http.Agent;
}

/** A key set that a server tells. An answer other than 200 is none, and no redirection is followed: the URL was configured, its target was not. */
export class KeyUrl implements KeySource {
  readonly #options: KeyUrlOptions;

  constructor(options: KeyUrlOptions) {
    this.#options = options;
  }

  async read(): Promise<string> {
    const { url } = this.#options;
    try {
      return await this.#get();
    } catch (cause) {
      const why = cause instanceof Error ? cause.message : 'no answer';
      throw new PicketError(
        'unavailable',
        'keys_unavailable',
        `Cannot read the keys from ${url.href}: ${why}`,
        { cause },
      );
    }
  }

  async #get(): Promise<string> {
    const { url, agent } = this.#options;
    const { promise, resolve, reject } = Promise.withResolvers<string>();
    const { request: send } = url.protocol === 'https:' ? https : http;
    const request = send(url, { agent, headers: { accept: 'application/jwk-set+json, application/json' } });
    const giveUp = (why: string): void => {
      reject(new Error(why));
      request.destroy();
    };
    const timer = setTimeout(() => giveUp('it takes too long'), KEY_SOURCE_LIMITS.timeoutMs);
    request.on('error', reject);
    request.on('response', (response) => collect(response, { resolve, reject, giveUp }));
    request.end();
    return await promise.finally(() => clearTimeout(timer));
  }
}

function collect(
  response: IncomingMessage,
  end: {
    readonly resolve: (text: string) => void;
    readonly reject: (error: unknown) => void;
    readonly giveUp: (why: string) => void;
  },
): void {
  if (response.statusCode !== 200) return end.giveUp(`it answers ${response.statusCode}`);
  const parts: Buffer[] = [];
  let bytes = 0;
  response.on('data', (part: Buffer) => {
    bytes += part.length;
    if (bytes > KEY_SOURCE_LIMITS.bytes)
      return end.giveUp(`its answer is longer than ${KEY_SOURCE_LIMITS.bytes} bytes`);
    parts.push(part);
  });
  response.on('error', end.reject);
  response.on('aborted', () => end.reject(new Error('it broke off')));
  response.on('end', () => end.resolve(Buffer.concat(parts).toString('utf8')));
}

import { readFileSync } from 'node:fs';
import { Readable } from 'node:stream';
import type { z } from 'zod';
import { PicketError } from '../shared/errors/errors.ts';
import { MAX_PAGE } from '../shared/protocol/page.ts';
import { errorOfProblem } from '../shared/protocol/problem.ts';
import { identityKindOf } from '../shared/spiffe/reserved-path.ts';
import { readLeafIdentity } from '../shared/spiffe/x509-svid.ts';

/** Where the server is: its unix socket on the same host, or its operators' port with a client certificate. */
export type ServerTarget =
  | { readonly kind: 'socket'; readonly path: string }
  | {
      readonly kind: 'https';
      readonly url: string;
      readonly certFile: string;
      readonly keyFile: string;
      readonly caFile: string;
    };

type Query = Readonly<Record<string, string | number | undefined>>;

interface Page<Item> {
  readonly items: readonly Item[];
  readonly next: string | null;
}

const TIMEOUT_MS = 60_000;

/** The operators' API of the server, one method a verb. Errors are the server's own, as PicketError. */
export class ServerClient {
  readonly #target: ServerTarget;

  constructor(target: ServerTarget) {
    this.#target = target;
  }

  async get<T extends z.ZodType>(path: string, answer: T, query: Query = {}): Promise<z.output<T>> {
    return await this.#call('GET', path, answer, { query });
  }

  /** Everything of a list that the server gives in pages, as one page. */
  async getAll<Item>(
    path: string,
    page: z.ZodType<Page<Item>>,
    query: Query = {},
  ): Promise<{ readonly items: readonly Item[]; readonly next: null }> {
    const items: Item[] = [];
    for (let cursor: string | undefined; ;) {
      const part: Page<Item> = await this.get(path, page, { ...query, cursor, limit: MAX_PAGE });
      items.push(...part.items);
      if (part.next === null) return { items, next: null };
      cursor = part.next;
    }
  }

  async post<T extends z.ZodType>(path: string, answer: T, body: unknown): Promise<z.output<T>> {
    return await this.#call('POST', path, answer, { body });
  }

  async put<T extends z.ZodType>(path: string, answer: T, body: unknown): Promise<z.output<T>> {
    return await this.#call('PUT', path, answer, { body });
  }

  async delete(path: string): Promise<void> {
    await this.#call('DELETE', path, undefined, {});
  }

  /** The body of an answer as it comes, however long it takes. Throws what the server's problem document says. */
  async download(method: string, path: string): Promise<Readable> {
    const response = await this.#send(method, path, { isUnbounded: true });
    if (!response.ok) throw errorOfProblem(parseJson(await response.text()), response.status);
    if (response.body === null) throw new PicketError('unavailable', 'bad_answer', 'The server sent nothing');
    return Readable.from(response.body);
  }

  async #call<T extends z.ZodType>(
    method: string,
    path: string,
    answer: T | undefined,
    options: { readonly query?: Query; readonly body?: unknown },
  ): Promise<z.output<T>> {
    const response = await this.#send(method, path, options);
    const text = await response.text();
    const body = parseJson(text);
    if (!response.ok) throw errorOfProblem(body, response.status);
    if (answer === undefined) return undefined as z.output<T>;
    const parsed = answer.safeParse(body);
    if (!parsed.success) {
      throw new PicketError(
        'unavailable',
        'bad_answer',
        `The server answered ${method} ${path} in a form that this version does not know`,
        {
          cause: parsed.error,
        },
      );
    }
    return parsed.data;
  }

  async #send(
    method: string,
    path: string,
    options: { readonly query?: Query; readonly body?: unknown; readonly isUnbounded?: boolean },
  ): Promise<Response> {
    const url = new URL(path, this.#target.kind === 'socket' ? 'http://picket' : this.#target.url);
    for (const [name, value] of Object.entries(options.query ?? {}))
      if (value !== undefined) url.searchParams.set(name, String(value));
    const request: BunFetchRequestInit = {
      method,
      ...(options.isUnbounded === true ? {} : { signal: AbortSignal.timeout(TIMEOUT_MS) }),
      redirect: 'error',
      ...(options.body === undefined
        ? {}
        : { body: JSON.stringify(options.body), headers: { 'content-type': 'application/json' } }),
      ...this.#transport(),
    };
    try {
      return await fetch(url, request);
    } catch (cause) {
      throw this.#unreachable(cause);
    }
  }

  #transport(): Partial<BunFetchRequestInit> {
    if (this.#target.kind === 'socket') return { unix: this.#target.path };
    return {
      tls: {
        cert: readFile(this.#target.certFile, '--cert'),
        key: readFile(this.#target.keyFile, '--key'),
        ca: readFile(this.#target.caFile, '--ca'),
        rejectUnauthorized: true,
        checkServerIdentity: (_host: string, certificate: { readonly raw?: Uint8Array }) =>
          requireServerIdentity(certificate.raw),
      },
    };
  }

  #unreachable(cause: unknown): PicketError {
    if (cause instanceof PicketError) return cause;
    const where = this.#target.kind === 'socket' ? `the unix socket ${this.#target.path}` : this.#target.url;
    const hint =
      this.#target.kind === 'socket'
        ? 'Is the server running on this host, and are you root? For a remote server give --server, --cert, --key and --ca.'
        : 'Is the address right, and does --ca hold the trust bundle of its trust domain?';
    return new PicketError(
      'unavailable',
      'server_unreachable',
      `Cannot reach the Picket server at ${where}. ${hint}`,
      { cause },
    );
  }
}

/** Whatever name the server was reached by: its certificate must be a Picket server's, from the trust bundle given. */
function requireServerIdentity(der: Uint8Array | undefined): Error | undefined {
  if (der === undefined) return new Error('the server showed no certificate');
  const { spiffeId } = readLeafIdentity(der);
  return identityKindOf(spiffeId) === 'server'
    ? undefined
    : new Error(`the certificate is of ${spiffeId}, not of a Picket server`);
}

function readFile(path: string, option: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch (cause) {
    throw new PicketError(
      'invalid_argument',
      'file_unreadable',
      `Cannot read ${path}, given with ${option}`,
      { cause },
    );
  }
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

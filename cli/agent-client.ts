import type { Command } from 'commander';
import { Option } from 'commander';
import type { z } from 'zod';
import { PicketError } from '../shared/errors/errors.ts';
import { errorOfProblem } from '../shared/protocol/problem.ts';

const DEFAULT_AGENT_SOCKET = '/run/picket/admin.sock';

const TIMEOUT_MS = 10_000;

/** The admin socket of the agent on this host. Errors are the agent's own, as PicketError. */
export class AgentClient {
  readonly #path: string;

  constructor(path: string) {
    // An empty variable is one that is not set.
    this.#path = path === '' ? DEFAULT_AGENT_SOCKET : path;
  }

  /** Throws `unavailable`, reason `agent_unreachable`, when no agent answers. */
  async get<T extends z.ZodType>(
    path: string,
    answer: T,
    query: Readonly<Record<string, string>> = {},
  ): Promise<z.output<T>> {
    const response = await this.#send(`${path}?${new URLSearchParams(query).toString()}`);
    return await read(response, `GET ${path}`, answer);
  }

  /** As `get`, for what takes up to `timeoutMs`. */
  async post<T extends z.ZodType>(path: string, answer: T, timeoutMs: number): Promise<z.output<T>> {
    return await read(await this.#send(path, { method: 'POST', timeoutMs }), `POST ${path}`, answer);
  }

  async #send(
    target: string,
    {
      method = 'GET',
      timeoutMs = TIMEOUT_MS,
    }: { readonly method?: string; readonly timeoutMs?: number } = {},
  ): Promise<Response> {
    try {
      return await fetch(`http://agent${target}`, {
        method,
        unix: this.#path,
        redirect: 'error',
        signal: AbortSignal.timeout(timeoutMs),
      });
    } catch (cause) {
      throw new PicketError(
        'unavailable',
        'agent_unreachable',
        `Cannot reach the Picket agent at the unix socket ${this.#path}. Is it running on this host?`,
        { cause },
      );
    }
  }
}

/** Throws the agent's own error, and `unavailable`, reason `bad_answer`. */
async function read<T extends z.ZodType>(response: Response, what: string, answer: T): Promise<z.output<T>> {
  const body: unknown = await response.json().catch(() => undefined);
  if (!response.ok) throw errorOfProblem(body, response.status);
  const parsed = answer.safeParse(body);
  if (parsed.success) return parsed.data;
  throw new PicketError(
    'unavailable',
    'bad_answer',
    `The agent answered ${what} in a form that this version does not know`,
    { cause: parsed.error },
  );
}

/** Adds the option that says where the agent answers. */
export function withAgentSocket(command: Command): Command {
  return command.addOption(
    new Option('--agent-socket <path>', 'admin socket of the agent on this host')
      .env('PICKET_AGENT_SOCKET')
      .default(DEFAULT_AGENT_SOCKET),
  );
}

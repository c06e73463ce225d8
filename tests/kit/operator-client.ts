import { join } from 'node:path';
import { z } from 'zod';
import { run, runOk, type RunResult } from './child.ts';
import type { ControlPlane } from './control-plane.ts';
import type { TestHost } from './netns.ts';
import { picketBinary } from './picket-binary.ts';
import { HANGING_MS } from './programs.ts';

/** Files of a client certificate, PEM. */
export interface ClientFiles {
  readonly cert: string;
  readonly key: string;
  readonly bundle: string;
}

/** What the operators' API answered: the status, and the body as JSON. */
export interface ApiAnswer {
  readonly status: number;
  readonly body: unknown;
}

/** The body of a refusal (RFC 9457). */
export const refusalBody = z.looseObject({ code: z.string(), reason: z.string(), detail: z.string() });

/** The name by which curl verifies the server. */
const SERVER_NAME = 'localhost';

/** Somebody elsewhere who asks 8444 of the server, by curl and by the command line, with the certificate of `files` or none. */
export class OperatorClient {
  readonly #control: ControlPlane;
  readonly #host: TestHost;
  readonly files: ClientFiles | undefined;

  constructor(control: ControlPlane, host: TestHost, files?: ClientFiles) {
    this.#control = control;
    this.#host = host;
    this.files = files;
  }

  /** Makes an operator over the local socket, or by `by`, who asks from `host`. */
  static async create(
    control: ControlPlane,
    options: { readonly host: TestHost; readonly name: string; readonly roles: readonly string[] },
  ): Promise<OperatorClient> {
    const out = join(control.folder, `operator-${options.name}`);
    const roles = options.roles.flatMap((role) => ['--role', role]);
    await control.picketOk('operator', 'create', options.name, ...roles, '--out', out);
    return new OperatorClient(control, options.host, {
      cert: join(out, 'client.crt'),
      key: join(out, 'client.key'),
      bundle: join(out, 'bundle.crt'),
    });
  }

  /** Asks by curl, which verifies the server by its name. Status 0: no answer. */
  async curl(path: string, ...args: readonly string[]): Promise<ApiAnswer> {
    const { files } = this;
    const identity = files === undefined ? [] : ['--cert', files.cert, '--key', files.key];
    const { stdout } = await run(
      this.#host.in(
        'curl',
        '-sS',
        '-m',
        '10',
        '-w',
        '\n%{http_code}',
        '--connect-to',
        `${SERVER_NAME}:8444:${this.#control.host.ipv4}:8444`,
        '--cacert',
        files?.bundle ?? this.#control.bundleFile,
        ...identity,
        ...args,
        `https://${SERVER_NAME}:8444${path}`,
      ),
      { withinMs: HANGING_MS },
    );
    const end = stdout.lastIndexOf('\n');
    const text = stdout.slice(0, end);
    return { status: Number(stdout.slice(end + 1)), body: text === '' ? undefined : parseText(text) };
  }

  /** Posts JSON. */
  async post(path: string, body: unknown): Promise<ApiAnswer> {
    return await this.curl(path, '-H', 'content-type: application/json', '-d', JSON.stringify(body));
  }

  /** The command line from elsewhere. */
  async picket(...args: readonly string[]): Promise<RunResult> {
    return await run(this.#host.in(picketBinary(), ...args), { env: this.#environment() });
  }

  /** As `picket`, for what must succeed; what it printed. */
  async picketOk(...args: readonly string[]): Promise<string> {
    return await runOk(this.#host.in(picketBinary(), ...args), { env: this.#environment() });
  }

  #environment(): Readonly<Record<string, string>> {
    const { files } = this;
    return {
      PICKET_SOCKET: '',
      PICKET_SERVER: `https://${this.#control.host.ipv4}:8444`,
      PICKET_CERT: files?.cert ?? '',
      PICKET_KEY: files?.key ?? '',
      PICKET_CA: files?.bundle ?? '',
    };
  }
}

function parseText(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}

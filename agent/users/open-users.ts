import { readFile } from 'node:fs/promises';
import type { Socket } from 'node:net';
import { PicketError } from '../../shared/errors/errors.ts';
import type { Clock } from '../../shared/runtime/clock.ts';
import type { Log } from '../../shared/runtime/log.ts';
import type { SocketAddress } from '../native/socket-address.ts';
import { createMarkedAgent } from '../outgoing/marked-agents.ts';
import { KeyFile } from './key-file.ts';
import { parseKeySet } from './key-set.ts';
import type { KeySource } from './key-source.ts';
import { KeyUrl } from './key-url.ts';
import type { SignatureAlgorithm } from './signature-algorithms.ts';
import { TokenUsers, type TokenUsersOptions } from './token-users.ts';
import type { ClaimRules } from './user-claims.ts';

/** An issuer as it is configured. */
export interface IssuerConfig extends ClaimRules {
  readonly keys:
    | { readonly kind: 'file'; readonly path: string }
    | { readonly kind: 'url'; readonly url: string; readonly caFile: string | undefined };
  readonly algorithms: readonly SignatureAlgorithm[];
  readonly refreshMs: number;
  readonly maxKeyAgeMs: number;
}

export interface OpenUsersOptions extends Omit<TokenUsersOptions, 'issuers'> {
  readonly issuers: readonly IssuerConfig[];
  /** Makes connections that capture lets pass. */
  readonly dial: (destination: SocketAddress) => Socket;
  readonly clock: Clock;
  readonly log: Log;
}

/**
 * Users by the tokens of the configured issuers. Keys of a URL are read in the background. Throws `invalid_argument` or `unavailable` for a file of keys or of
 * authorities that cannot be read: who configured it wants it to work.
 */
export async function openUsers(options: OpenUsersOptions): Promise<TokenUsers> {
  const issuers = await Promise.all(
    options.issuers.map(async (issuer) => ({ ...issuer, source: await openSource(issuer, options) })),
  );
  const users = new TokenUsers({ ...options, issuers });
  void users.start();
  return users;
}

async function openSource({ keys }: IssuerConfig, { dial }: OpenUsersOptions): Promise<KeySource> {
  if (keys.kind === 'file') {
    const file = new KeyFile(keys.path);
    parseKeySet(await file.read());
    return file;
  }
  const { caFile } = keys;
  const ca = caFile === undefined ? {} : { ca: await readAuthorities(caFile) };
  return new KeyUrl({ url: new URL(keys.url), agent: createMarkedAgent('https:', { dial, ...ca }) });
}

async function readAuthorities(path: string): Promise<string> {
  try {
    return await readFile(path, 'utf8');
  } catch (cause) {
    throw new PicketError('invalid_argument', 'file_unreadable', `Cannot read ${path}`, { cause });
  }
}

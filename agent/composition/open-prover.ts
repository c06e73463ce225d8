import { readFile } from 'node:fs/promises';
import { PicketError } from '../../shared/errors/errors.ts';
import type { Clock } from '../../shared/runtime/clock.ts';
import type { AttestationConfig } from '../config/config.ts';
import type { NodeProver } from '../node-attestation/node-prover.ts';

/** The adapters of `NodeProver`, which only the composition root may name. */
export interface ProverAdapters {
  readonly joinToken: (token: string) => NodeProver;
  readonly tpm: (options: {
    readonly address: string;
    readonly ek: 'auto' | 'rsa' | 'ecc';
    readonly ak: 'ecc' | 'rsa';
    readonly endorsementPassword?: Uint8Array;
    readonly clock: Clock;
  }) => NodeProver;
}

/** The prover that the configuration names. Throws `invalid_argument`, reason `file_unreadable`. */
export async function openProver(
  config: AttestationConfig,
  options: { readonly adapters: ProverAdapters; readonly clock: Clock },
): Promise<NodeProver> {
  const { adapters, clock } = options;
  if (config.kind === 'join_token') return adapters.joinToken(config.token);
  if (config.kind === 'join_token_file')
    return adapters.joinToken((await readSecret(config.path)).toString('utf8'));
  const { device: address, ek, ak, endorsementPasswordFile } = config;
  if (endorsementPasswordFile === undefined) return adapters.tpm({ address, ek, ak, clock });
  return adapters.tpm({
    address,
    ek,
    ak,
    clock,
    endorsementPassword: await readSecret(endorsementPasswordFile),
  });
}

/** The content of a file without the newline at its end. */
async function readSecret(path: string): Promise<Buffer> {
  try {
    const content = await readFile(path);
    return content.at(-1) === 0x0a ? content.subarray(0, -1) : content;
  } catch (cause) {
    throw new PicketError('invalid_argument', 'file_unreadable', `Cannot read ${path}`, { cause });
  }
}

import { randomBytes } from 'node:crypto';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Clock } from '../../shared/runtime/clock.ts';
import { parseTrustDomain, type TrustDomain } from '../../shared/spiffe/trust-domain.ts';
import { encodePem } from '../../shared/wire/pem.ts';
import {
  createOnlineMaterial,
  createRoot,
  DEFAULT_LIVES,
  type Lives,
  type RootAuthority,
} from '../../server/ca/ceremony.ts';
import { ONLINE_FILES, openAuthority } from '../../server/ca/open-authority.ts';
import type { OnlineAuthority } from '../../server/ca/online-authority.ts';
import { MemoryKeyManager } from '../../server/key-manager/memory.ts';
import { silentLog } from './datastore.ts';

/** A certificate authority made by the real ceremony, its online part in `folder`. */
export interface TestCa {
  readonly root: RootAuthority;
  readonly authority: OnlineAuthority;
}

/** Performs the ceremony into `folder` and opens the online authority with keys in memory. */
export async function createTestCa(options: {
  readonly folder: string;
  readonly clock: Clock;
  readonly trustDomain?: TrustDomain;
  readonly lives?: Partial<Lives>;
}): Promise<TestCa> {
  const trustDomain = options.trustDomain ?? parseTrustDomain('example.org');
  const lives = { ...DEFAULT_LIVES, ...options.lives };
  const nowMs = options.clock.nowMs();
  const root = await createRoot(trustDomain, { nowMs, lifeSeconds: lives.rootSeconds });
  const online = await createOnlineMaterial(root, { trustDomain, nowMs, lives });
  mkdirSync(options.folder, { recursive: true });
  const write = (name: string, text: string): void => writeFileSync(join(options.folder, name), text);
  write(ONLINE_FILES.bundle, root.certificatePem);
  write(ONLINE_FILES.intermediate.certificate, online.intermediatePem);
  write(ONLINE_FILES.intermediate.key, encodePem('PRIVATE KEY', online.intermediateKeyPkcs8));
  write(ONLINE_FILES.policy.certificate, online.policyPem);
  write(ONLINE_FILES.policy.key, encodePem('PRIVATE KEY', online.policyKeyPkcs8));
  const authority = await openAuthority({
    directory: options.folder,
    keys: new MemoryKeyManager(),
    trustDomain,
    clock: options.clock,
    random: (length) => randomBytes(length),
    log: silentLog,
  });
  return { root, authority };
}

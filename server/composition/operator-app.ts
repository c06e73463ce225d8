import type { PolicyEngineLoader } from '../../shared/policy/policy-engine.ts';
import { verifyPolicySignature } from '../../shared/spiffe/policy-signer.ts';
import { pathOf } from '../../shared/spiffe/spiffe-id.ts';
import { DEFAULT_LIMITS } from '../http/limits.ts';
import { buildOperatorApp, type OperatorCapabilities } from '../http/operator-app.ts';
import { AdminPolicy } from '../policy-admin/admin-policy.ts';
import { toAdminRequest } from '../policy-admin/admin-request.ts';
import type { OpaCompiler } from '../policy-admin/opa.ts';
import { clock, type Start } from './start.ts';

/** What operators are served from. */
export interface OperatorParts {
  readonly capabilities: OperatorCapabilities;
  readonly compiler: OpaCompiler;
  /** Loads the admin policy. */
  readonly loader: PolicyEngineLoader;
}

/** The API of operators, the same on the local socket and by TLS; `draining` ends its streams. */
export async function buildOperators(
  { config, runtime, log }: Start,
  { capabilities, compiler, loader }: OperatorParts,
  draining: AbortSignal,
): ReturnType<typeof buildOperatorApp> {
  const { datastore, authority, operators } = capabilities;
  const adminPolicy = new AdminPolicy({
    loader,
    bundle: authority.bundle,
    verifySignature: verifyPolicySignature,
    datastore,
    compiler,
    trustDomain: config.trustDomain,
    clock,
  });
  return await buildOperatorApp({
    capabilities,
    verification: { bundle: authority.bundle, clock },
    findOperator: async (spiffeId, serial) =>
      await operators.findInForce(pathOf(spiffeId).split('/').at(-1) ?? '', serial),
    decide: async (question) => await adminPolicy.decide(toAdminRequest(question)),
    version: runtime.version,
    limits: DEFAULT_LIMITS,
    clock,
    log,
    draining,
  });
}

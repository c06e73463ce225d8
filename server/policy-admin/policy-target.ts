import adminSchema from '../../policies/schema/admin-input.json' with { type: 'json' };
import meshSchema from '../../policies/schema/input.json' with { type: 'json' };

/** Whom a policy is for: the agents' traffic, or what operators may do. */
export type PolicyTargetName = 'mesh' | 'admin';

/** Facts on a target. */
export interface PolicyTarget {
  /** JSON schema of the input. */
  readonly schema: object;
  /** Packages that may hold the rule `allow`, the first that does wins. */
  readonly packages: readonly string[];
  /** Rules beside `allow` that are entry points where the package has them. */
  readonly hasEgress: boolean;
}

export const POLICY_TARGETS: Readonly<Record<PolicyTargetName, PolicyTarget>> = {
  mesh: { schema: meshSchema, packages: ['picket/authz', 'envoy/authz'], hasEgress: true },
  admin: { schema: adminSchema, packages: ['picket/admin'], hasEgress: false },
};

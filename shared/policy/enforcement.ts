import { PicketError } from '../errors/errors.ts';
import { segmentsOf } from '../spiffe/segment.ts';
import { parseSpiffeId, pathOf, type SpiffeId } from '../spiffe/spiffe-id.ts';

/** Whether what the policy denies is refused, or passes and is recorded as what would have been refused. */
export const ENFORCEMENT_MODES = ['enforce', 'audit'] as const;

export type EnforcementMode = (typeof ENFORCEMENT_MODES)[number];

/** Services by their SPIFFE ID: one, or with `/*` behind it all that stand below it, by whole segments of the path. */
export type EnforcementScope = string & { readonly __brand: 'EnforcementScope' };

const BELOW = '/*';

/**
 * Reads a scope, in its one spelling: `spiffe://example.org/shop/web`, `spiffe://example.org/shop/*`, `spiffe://example.org/*`. Throws `invalid_argument`, reason
 * `enforcement_scope_invalid`.
 */
export function parseEnforcementScope(text: string): EnforcementScope {
  const isBelow = text.endsWith(BELOW);
  const id = isBelow ? text.slice(0, -BELOW.length) : text;
  try {
    const parsed = parseSpiffeId(id);
    if (pathOf(parsed) !== '' || isBelow) return `${parsed}${isBelow ? BELOW : ''}` as EnforcementScope;
  } catch (cause) {
    throw refuse(text, cause);
  }
  throw refuse(text);
}

/** The SPIFFE ID that a scope begins with, and whether it means what stands below it. */
export function splitEnforcementScope(scope: EnforcementScope): {
  readonly id: SpiffeId;
  readonly isBelow: boolean;
} {
  const isBelow = scope.endsWith(BELOW);
  return { id: (isBelow ? scope.slice(0, -BELOW.length) : scope) as SpiffeId, isBelow };
}

/** The mode of a service: that of its own ID, or of the nearest scope that it stands below. What nobody names is enforced. */
export function enforcementModeOf(
  service: SpiffeId | null,
  modes: ReadonlyMap<EnforcementScope, EnforcementMode>,
): EnforcementMode {
  if (service === null || modes.size === 0) return 'enforce';
  for (const segment of segmentsOf(service)) {
    const scope = segment === service ? service : `${segment}${BELOW}`;
    const mode = modes.get(scope as EnforcementScope);
    if (mode !== undefined) return mode;
  }
  return 'enforce';
}

function refuse(text: string, cause?: unknown): PicketError {
  return new PicketError(
    'invalid_argument',
    'enforcement_scope_invalid',
    `Cannot read the scope "${text.slice(0, 200)}": the SPIFFE ID of a service is expected, or one with /* behind it for all below it`,
    { cause },
  );
}

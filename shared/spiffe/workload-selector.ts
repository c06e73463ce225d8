import { PicketError } from '../errors/errors.ts';
import type { Selector } from './selector.ts';

/** What agents prove of a process, and how the value is written. */
const KINDS: ReadonlyMap<string, { readonly pattern: RegExp; readonly value: string }> = new Map([
  ['unix:uid', { pattern: /^(0|[1-9][0-9]{0,9})$/, value: 'a number' }],
  ['unix:gid', { pattern: /^(0|[1-9][0-9]{0,9})$/, value: 'a number' }],
  ['unix:supplementary_gid', { pattern: /^(0|[1-9][0-9]{0,9})$/, value: 'a number' }],
  ['unix:user', { pattern: /./, value: 'a name' }],
  ['unix:group', { pattern: /./, value: 'a name' }],
  ['unix:supplementary_group', { pattern: /./, value: 'a name' }],
  ['unix:path', { pattern: /^\//, value: 'an absolute path' }],
  ['unix:sha256', { pattern: /^[0-9a-f]{64}$/, value: '64 lower-case hexadecimal digits' }],
  ['netns:inode', { pattern: /^[1-9][0-9]{0,19}$/, value: 'a number' }],
  ['netns:name', { pattern: /./, value: 'a name' }],
]);

/**
 * Throws unless a process can have `selector`: an entry that asks for another one is never earned, which its author would learn from a workload without identity.
 * `invalid_argument`, reason `selector_unknown`.
 */
export function requireWorkloadSelector(selector: Selector): void {
  const [type = '', name = ''] = selector.split(':', 2);
  const kind = `${type}:${name}`;
  const known = KINDS.get(kind);
  if (known === undefined)
    throw unknown(
      selector,
      `no process has a selector of that kind: expected ${[...KINDS.keys()].join(', ')}`,
    );
  if (!known.pattern.test(selector.slice(kind.length + 1)))
    throw unknown(selector, `expected ${kind}: and ${known.value}`);
}

function unknown(selector: Selector, why: string): PicketError {
  return new PicketError(
    'invalid_argument',
    'selector_unknown',
    `Cannot register by selector "${selector}": ${why}`,
  );
}

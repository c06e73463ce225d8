import type { InputPath } from './policy-bundle.ts';
import type { PolicyInput } from './policy-engine.ts';

type Branch = Record<string, unknown>;

/**
 * What a policy reads of an input (`PolicyBundle.reads`), without the rest: a client decides how long that is, and the policy's module would parse all of it. Arrays are taken as a
 * whole. The input stays as it is.
 */
export function readInput(input: PolicyInput, reads: readonly InputPath[]): PolicyInput {
  const read = newBranch();
  for (const path of reads) {
    if (path.length === 0) return input;
    copyPath(input, read, path);
  }
  return read;
}

function copyPath(input: PolicyInput, read: Branch, path: InputPath): void {
  let [from, to] = [input, read];
  for (const [depth, name] of path.entries()) {
    if (!Object.hasOwn(from, name)) return;
    const value = from[name];
    // It was taken as a whole, which is not ours to write to.
    if (to[name] === value) return;
    if (depth === path.length - 1 || !isBranch(value)) {
      to[name] = value;
      return;
    }
    const next = (to[name] ?? newBranch()) as Branch;
    to[name] = next;
    [from, to] = [value, next];
  }
}

/** Without a prototype: `__proto__` is a name like others, and clients name headers. */
function newBranch(): Branch {
  return Object.create(null) as Branch;
}

function isBranch(value: unknown): value is PolicyInput {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

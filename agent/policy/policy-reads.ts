import type { InputPath } from '../../shared/policy/policy-bundle.ts';

/** Fields of the input that tell the time. */
export const CLOCK: readonly InputPath[] = [
  ['context', 'time'],
  ['context', 'time_ns'],
  ['context', 'weekday'],
  ['context', 'hour'],
  ['context', 'minute'],
  ['attributes', 'request', 'time'],
];

/** The user, and all that is told of one. */
export const USER: readonly InputPath[] = [['user']];

/** The networks that have names. */
export const NETWORKS: readonly InputPath[] = [['context', 'networks']];

/** Whether a policy reads one of those fields, or something in it, or more than it. Undefined reads are not known, and may be any. */
export function mayRead(reads: readonly InputPath[] | undefined, fields: readonly InputPath[]): boolean {
  return reads?.some((path) => fields.some((field) => overlaps(path, field))) ?? true;
}

/** Whether one path leads to the other, or to something in it. */
function overlaps(one: InputPath, other: InputPath): boolean {
  const depth = Math.min(one.length, other.length);
  return one.slice(0, depth).every((name, at) => name === other[at]);
}

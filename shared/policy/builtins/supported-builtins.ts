import { createTimeBuiltins } from './time.ts';
import { TEXT_BUILTINS } from './text.ts';
import { VALUE_BUILTINS } from './value.ts';
import type { Builtins } from './builtin.ts';

/**
 * What OPA 1.22 compiles into the module itself, without its tracing. Whatever is neither here nor ours is refused at publication, so an
 * agent never meets it. Left out on purpose, because what opa-wasm brings for them differs from OPA's or is not bounded: regex.split, yaml.*.
 */
const NATIVE_BUILTINS = `
  abs all and any array.concat array.flatten array.reverse array.slice assign base64.decode base64.encode base64.is_valid
  base64url.decode base64url.encode bits.and bits.lsh bits.negate bits.or bits.rsh bits.xor ceil concat contains count div endswith
  eq equal floor format_int glob.match graph.reachable gt gte indexof internal.member_2 internal.member_3 internal.print
  internal.template_string internal.test_case intersection is_array is_boolean is_null is_number is_object is_set is_string
  json.filter json.is_valid json.marshal json.remove json.unmarshal lower lt lte max min minus mul neq net.cidr_contains
  net.cidr_intersects net.cidr_overlap numbers.range object.filter object.get object.keys object.remove object.union object.union_n
  or plus print product re_match regex.find_all_string_submatch_n regex.is_valid regex.match rego.metadata.chain
  rego.metadata.rule rem replace round set_diff sort split startswith strings.replace_n strings.reverse substring sum to_number trim
  trim_left trim_prefix trim_right trim_space trim_suffix type_name union upper walk`;

/** Answered by opa-wasm's own table, which takes precedence over ours. */
const LIBRARY_BUILTINS: readonly string[] = ['sprintf'];

/** The builtins of ours, reading the clock that is passed in. */
export function createHostBuiltins(nowNs: () => bigint): Builtins {
  return { ...TEXT_BUILTINS, ...VALUE_BUILTINS, ...createTimeBuiltins(nowNs) };
}

const HOST_BUILTINS: ReadonlySet<string> = new Set([
  ...LIBRARY_BUILTINS,
  ...Object.keys(createHostBuiltins(() => 0n)),
]);

/** Every builtin that a policy of ours may use. */
export const SUPPORTED_BUILTINS: ReadonlySet<string> = new Set([
  ...NATIVE_BUILTINS.trim().split(/\s+/),
  ...HOST_BUILTINS,
]);

/** Whether a module that asks its host for `name` gets an answer. */
export function isHostBuiltin(name: string): boolean {
  return HOST_BUILTINS.has(name);
}

import { loadProgram } from './bpf.ts';
import { buildGetpeername, buildGetsockopt, buildRelease } from './steering-answers.ts';
import { buildConnect, buildSendmsg } from './steering-decisions.ts';
import type { SteeringParts } from './steering-lines.ts';

/** linux/bpf.h: enum bpf_prog_type. */
const CGROUP_SOCK = 9;
const CGROUP_SOCK_ADDR = 18;
const CGROUP_SOCKOPT = 25;

/** A place in the kernel at which one of the programs runs. */
export interface SteeringHook {
  readonly name: string;
  readonly type: number;
  /** linux/bpf.h: enum bpf_attach_type. */
  readonly attachType: number;
  readonly build: (parts: SteeringParts) => Buffer<ArrayBuffer>;
}

/** All of them, in the order in which they are attached. `release` is first: what is written down is taken away again from the beginning. */
export const STEERING_HOOKS: readonly SteeringHook[] = [
  { name: 'release', type: CGROUP_SOCK, attachType: 34, build: buildRelease },
  address('connect4', 10, (parts) => buildConnect(parts, 'ipv4')),
  address('connect6', 11, (parts) => buildConnect(parts, 'ipv6')),
  address('sendmsg4', 14, (parts) => buildSendmsg(parts, 'ipv4')),
  address('sendmsg6', 15, (parts) => buildSendmsg(parts, 'ipv6')),
  address('getpeername4', 29, (parts) => buildGetpeername(parts, 'ipv4')),
  address('getpeername6', 30, (parts) => buildGetpeername(parts, 'ipv6')),
  { name: 'getsockopt', type: CGROUP_SOCKOPT, attachType: 21, build: buildGetsockopt },
];

/** Loads the program of a hook; its descriptor. Throws like `loadProgram`. */
export function loadHook(hook: SteeringHook, parts: SteeringParts): number {
  const { type, attachType } = hook;
  return loadProgram(hook.build(parts), { name: `pk_${hook.name}`, type, attachType });
}

function address(name: string, attachType: number, build: SteeringHook['build']): SteeringHook {
  return { name, type: CGROUP_SOCK_ADDR, attachType, build };
}

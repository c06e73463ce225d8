import { PicketError } from '../../shared/errors/errors.ts';
import { errno, errnoName, libc } from './libc.ts';

/** bpf(2) by architecture. */
const SYSCALL_NUMBERS: Readonly<Partial<Record<NodeJS.Architecture, number>>> = { x64: 321, arm64: 280 };

/** bpf(2), whose attributes are of `allocateNative`: the result, or the error number as a negative one. Throws `unavailable`, reason `bpf`, where the call has no known number. */
export function bpf(command: number, attributes: Buffer): number {
  const number = SYSCALL_NUMBERS[process.arch];
  if (number === undefined) throw bpfUnavailable('call bpf(2)', `its number on ${process.arch} is not known`);
  const result = Number(libc().syscall(number, command, attributes, attributes.length));
  return result < 0 ? -errno() : result;
}

/** The descriptor that a command of bpf(2) gives, or whatever it returns. Throws `unavailable`, reason `bpf`. */
export function requireBpf(command: number, attributes: Buffer, what: string): number {
  const result = bpf(command, attributes);
  if (result < 0) throw bpfUnavailable(what, errnoName(-result));
  return result;
}

/** The error of what the kernel or the privileges do not let us do. */
export function bpfUnavailable(what: string, why: string): PicketError {
  return new PicketError('unavailable', 'bpf', `Cannot ${what} in the kernel: ${why}`);
}

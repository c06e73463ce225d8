import {
  callKernel,
  compute,
  jump,
  jumpIf,
  load,
  loadMapValue,
  type Line,
  type Register,
  type Size,
} from './bpf-instructions.ts';
import type { BtfAnswer } from './btf.ts';

/** Pieces of programs that use the kernel's own types and functions, and one array map. */
export class KernelLines {
  readonly #types: BtfAnswer;
  readonly #mapFd: number;

  constructor({ types, mapFd }: { readonly types: BtfAnswer; readonly mapFd: number }) {
    this.#types = types;
    this.#mapFd = mapFd;
  }

  /** `to = the address of the map's value, plus offset` */
  area(to: Register, offset = 0): Line {
    return loadMapValue(to, this.#mapFd, offset);
  }

  /** `to = from->member` */
  field(size: Size, to: Register, from: Register, [struct, member]: readonly [string, string]): Line {
    return load(size, to, from, this.#types.offset(struct, member));
  }

  /** `to = from->outer.inner`, where `outer` is a structure. */
  innerField(
    size: Size,
    to: Register,
    from: Register,
    path: readonly [struct: string, outer: string, inner: string, member: string],
  ): Line {
    const [struct, outer, inner, member] = path;
    return load(size, to, from, this.#types.offset(struct, outer) + this.#types.offset(inner, member));
  }

  offset(struct: string, member: string): number {
    return this.#types.offset(struct, member);
  }

  /** r0 = the kernel's function of r1 to r5 */
  call(name: string): Line {
    return callKernel(this.#types.id(name));
  }

  /**
   * r0 = r1, read as a structure. Whatever address it is, reading through it is safe: where there is nothing, it reads as zero. So nothing that is
   * reached this way has to be checked, and the kernel's verifier says the same of it in every version.
   */
  cast(struct: string): readonly Line[] {
    return [compute(2, '=', this.#types.id(struct)), this.call('bpf_rdonly_cast')];
  }

  /**
   * Runs `body` for each number from 0 to r3 - 1; it finds the address of its number in r0, goes on by a jump to `name` and ends the loop by one to
   * `endOf(name)`. `slot` is its place on the stack, of 8 bytes.
   */
  forEachNumber(name: string, slot: number, body: readonly Line[]): readonly Line[] {
    return this.#loop(name, { iterator: 'bpf_iter_num', slot, first: [compute(2, '=', 0)], body });
  }

  /** The same for each task of the machine (its address in r0); `slot` is of 24 bytes. */
  forEachTask(
    name: string,
    { slot, flags }: { readonly slot: number; readonly flags: number },
    body: readonly Line[],
  ): readonly Line[] {
    const first = [compute(2, '=', 0), compute(3, '=', flags)];
    return this.#loop(name, { iterator: 'bpf_iter_task', slot, first, body });
  }

  #loop(
    name: string,
    parts: {
      readonly iterator: string;
      readonly slot: number;
      readonly first: readonly Line[];
      readonly body: readonly Line[];
    },
  ): readonly Line[] {
    const { iterator, slot, first, body } = parts;
    return [
      ...stackAddress(1, slot),
      ...first,
      this.call(`${iterator}_new`),
      { label: name },
      ...stackAddress(1, slot),
      this.call(`${iterator}_next`),
      jumpIf(0, '==', 0, endOf(name)),
      ...body,
      jump(name),
      { label: endOf(name) },
      ...stackAddress(1, slot),
      this.call(`${iterator}_destroy`),
    ];
  }
}

/** Where a loop ends. */
export function endOf(name: string): string {
  return `end of ${name}`;
}

function stackAddress(to: Register, slot: number): readonly Line[] {
  return [compute(to, '=', { register: 10 }), compute(to, '+=', slot)];
}

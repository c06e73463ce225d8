import { PicketError } from '../../shared/errors/errors.ts';

/** What is looked for in the kernel's description of its own types: members of structures, and functions. */
export interface BtfQuery {
  /** Names of members by name of structure. A member of an unnamed structure or union within counts as one of the outer structure. */
  readonly structs: Readonly<Record<string, readonly string[]>>;
  readonly functions: readonly string[];
}

/** What of it was found. */
export interface BtfAnswer {
  /** The number of a structure or function among the kernel's types. Throws `unavailable`, reason `btf`, where there is none, or several. */
  id(name: string): number;
  /** Where in a structure a member begins, in bytes. Throws like `id`. */
  offset(struct: string, member: string): number;
  /** The same in bits, of a member that may be less than a byte. */
  bit(struct: string, member: string): number;
}

/** linux/btf.h: kinds of types, and what follows the three words that each type begins with. */
const KIND_STRUCT = 4;
const KIND_UNION = 5;
const KIND_FUNC = 12;
const TAIL_BYTES: readonly ((members: number) => number)[] = [
  () => 0, // none
  () => 4, // int
  () => 0, // pointer
  () => 12, // array
  (members) => 12 * members, // struct
  (members) => 12 * members, // union
  (members) => 8 * members, // enum
  () => 0, // forward
  () => 0, // typedef
  () => 0, // volatile
  () => 0, // const
  () => 0, // restrict
  () => 0, // function
  (members) => 8 * members, // function prototype
  () => 4, // variable
  (members) => 12 * members, // section of data
  () => 0, // float
  () => 4, // tag of a declaration
  () => 0, // tag of a type
  (members) => 12 * members, // enum of 64 bits
];

const MAGIC = 0xeb9f;
const VERSION = 1;
const HEADER_BYTES = 24;
const TYPE_BYTES = 12;
const MEMBER_BYTES = 12;
/** Structures without a name within one; `task_struct` has ten. */
const MAX_NESTED = 256;

/** Sections of the text, absolute. */
interface Sections {
  readonly types: number;
  readonly typesEnd: number;
  readonly strings: number;
  readonly stringsEnd: number;
}

/**
 * Looks up types in BTF, the format of /sys/kernel/btf/vmlinux, of this machine's byte order (little). 5 ms for the kernel's 130,000 types. Throws
 * `invalid_argument`, reason `btf`, for what is not BTF or of a kind that is not known.
 *
 *     magic u16 | version u8 | flags u8 | header length u32 | types offset u32 | length u32 | strings offset u32 | length u32
 *     type: name u32 | members u16, 8 bits, kind 5 bits, 2 bits, flag 1 bit | size or type u32 | by kind
 *     member: name u32 | type u32 | offset in bits u32, of which 24 bits where the flag is set
 */
export function queryBtf(bytes: Buffer, query: BtfQuery): BtfAnswer {
  const sections = readSections(bytes);
  const reader = new TypeReader(bytes, sections);
  const wanted = new Set([...Object.keys(query.structs), ...query.functions]);
  const found = reader.find(wanted);
  const require = (name: string): number => {
    const [id, other] = found.get(name) ?? [];
    if (id === undefined || other !== undefined)
      throw missing(`${id === undefined ? 'no' : 'more than one'} ${name}`);
    return id;
  };
  const bit = (struct: string, member: string): number => {
    const bits = reader.findMember(require(struct), member);
    if (bits === undefined) throw missing(`no ${struct}.${member}`);
    return bits;
  };
  return {
    id: require,
    offset(struct, member) {
      const bits = bit(struct, member);
      if (bits % 8 !== 0) throw missing(`no ${struct}.${member}`);
      return bits / 8;
    },
    bit,
  };
}

function readSections(bytes: Buffer): Sections {
  if (bytes.length < HEADER_BYTES || bytes.readUInt16LE(0) !== MAGIC || bytes.readUInt8(2) !== VERSION)
    throw malformed('it does not begin as one');
  const base = bytes.readUInt32LE(4);
  const types = base + bytes.readUInt32LE(8);
  const typesEnd = types + bytes.readUInt32LE(12);
  const strings = base + bytes.readUInt32LE(16);
  const stringsEnd = strings + bytes.readUInt32LE(20);
  if (base < HEADER_BYTES || typesEnd > bytes.length || stringsEnd > bytes.length)
    throw malformed('it is cut short');
  return { types, typesEnd, strings, stringsEnd };
}

class TypeReader {
  readonly #bytes: Buffer;
  readonly #sections: Sections;
  /** Where each type stands, by its number; number 0 is void and stands nowhere. */
  readonly #positions: Uint32Array;
  #count = 1;

  constructor(bytes: Buffer, sections: Sections) {
    this.#bytes = bytes;
    this.#sections = sections;
    this.#positions = new Uint32Array(Math.floor((sections.typesEnd - sections.types) / TYPE_BYTES) + 1);
  }

  /** Goes through all types: the numbers of the structures and functions of these names. */
  find(names: ReadonlySet<string>): ReadonlyMap<string, readonly number[]> {
    const found = new Map<string, number[]>();
    const wanted = this.#placesOf(names);
    const { types, typesEnd } = this.#sections;
    for (let at = types; at < typesEnd;) {
      const end = this.#endOf(at);
      const name = wanted.get(this.#bytes.readUInt32LE(at));
      const kind = this.#kindAt(at);
      if (name !== undefined && (kind === KIND_STRUCT || kind === KIND_FUNC))
        found.set(name, [...(found.get(name) ?? []), this.#count]);
      this.#positions[this.#count++] = at;
      at = end;
    }
    return found;
  }

  /** Where the names stand among the strings, each of which stands there once: so types are compared by number and not by 100,000 texts. */
  #placesOf(names: ReadonlySet<string>): ReadonlyMap<number, string> {
    const strings = this.#bytes.subarray(this.#sections.strings, this.#sections.stringsEnd);
    const places = new Map<number, string>();
    for (const name of names) {
      const at = strings.indexOf(`\0${name}\0`, 'latin1');
      if (at >= 0) places.set(at + 1, name);
    }
    return places;
  }

  /** Where a member begins, in bits. What was gone through is not gone through again, so that types within each other end somewhere. */
  findMember(id: number, member: string, seen = new Set<number>()): number | undefined {
    const at = id < this.#count ? (this.#positions[id] ?? 0) : 0;
    if (at === 0 || seen.has(id) || seen.size > MAX_NESTED) return undefined;
    seen.add(id);
    const kind = this.#kindAt(at);
    if (kind !== KIND_STRUCT && kind !== KIND_UNION) return undefined;
    const info = this.#bytes.readUInt32LE(at + 4);
    const mask = info >>> 31 === 1 ? 0xffffff : 0xffffffff;
    for (let i = 0; i < (info & 0xffff); i++) {
      const entry = at + TYPE_BYTES + i * MEMBER_BYTES;
      const bits = (this.#bytes.readUInt32LE(entry + 8) & mask) >>> 0;
      const name = this.#nameAt(entry);
      if (name === member) return bits;
      if (name !== '') continue;
      const inner = this.findMember(this.#bytes.readUInt32LE(entry + 4), member, seen);
      if (inner !== undefined) return bits + inner;
    }
    return undefined;
  }

  #kindAt(at: number): number {
    return (this.#bytes.readUInt32LE(at + 4) >>> 24) & 0x1f;
  }

  #endOf(at: number): number {
    const { typesEnd } = this.#sections;
    if (at + TYPE_BYTES > typesEnd) throw malformed('a type is cut short');
    const tail = TAIL_BYTES[this.#kindAt(at)];
    if (tail === undefined) throw malformed(`a type is of the unknown kind ${this.#kindAt(at)}`);
    const end = at + TYPE_BYTES + tail(this.#bytes.readUInt32LE(at + 4) & 0xffff);
    if (end > typesEnd) throw malformed('a type is cut short');
    return end;
  }

  #nameAt(at: number): string {
    const { strings, stringsEnd } = this.#sections;
    const start = strings + this.#bytes.readUInt32LE(at);
    const end = start < stringsEnd ? this.#bytes.indexOf(0, start) : -1;
    if (end < 0 || end >= stringsEnd) throw malformed('a name is cut short');
    return this.#bytes.toString('latin1', start, end);
  }
}

function malformed(why: string): PicketError {
  return new PicketError('invalid_argument', 'btf', `Cannot read the kernel's types: ${why}`);
}

function missing(what: string): PicketError {
  return new PicketError('unavailable', 'btf', `The kernel's types have ${what}`);
}

import { ptr } from 'bun:ffi';
import { bpf, bpfUnavailable, requireBpf } from './bpf-call.ts';
import { allocateNative, errnoName } from './libc.ts';

const BPF_MAP_CREATE = 0;
const BPF_MAP_LOOKUP_ELEM = 1;
const BPF_MAP_UPDATE_ELEM = 2;
const BPF_MAP_DELETE_ELEM = 3;
const BPF_MAP_GET_NEXT_KEY = 4;
const BPF_OBJ_GET_INFO_BY_FD = 15;
const BPF_MAP_FREEZE = 22;
const BPF_F_NO_PREALLOC = 1;
const ENOENT = 2;
const MAP_INFO_BYTES = 24;

/** Kinds of maps (linux/bpf.h: enum bpf_map_type). */
const TYPES = { hash: 1, lru_hash: 9, lpm_trie: 11, reuseport_sockarray: 20 } as const;
/** Their places are made in advance, always. */
const PREALLOCATED: ReadonlySet<keyof typeof TYPES> = new Set(['lru_hash', 'reuseport_sockarray']);

/** What a map is like. */
export interface MapShape {
  readonly type: keyof typeof TYPES;
  readonly keyBytes: number;
  readonly valueBytes: number;
  readonly maxEntries: number;
}

const keyPlace = allocateNative(64);
const nextKeyPlace = allocateNative(64);
const valuePlace = allocateNative(64);
const elementAttributes = allocateNative(32);

/** Makes a map, empty. Its name is at most 15 letters. Like all here, it throws `unavailable`, reason `bpf`. */
export function createMap(shape: MapShape, name: string): number {
  const attributes = allocateNative(72);
  attributes.writeUInt32LE(TYPES[shape.type], 0);
  attributes.writeUInt32LE(shape.keyBytes, 4);
  attributes.writeUInt32LE(shape.valueBytes, 8);
  attributes.writeUInt32LE(shape.maxEntries, 12);
  attributes.writeUInt32LE(PREALLOCATED.has(shape.type) ? 0 : BPF_F_NO_PREALLOC, 16);
  attributes.write(name, 28, 15, 'latin1');
  return requireBpf(BPF_MAP_CREATE, attributes, `make the map ${name}`);
}

/** Whether a map is as it would be made. */
export function hasShape(mapFd: number, shape: MapShape): boolean {
  const info = readInfo(mapFd, MAP_INFO_BYTES, 'look at a map');
  const numbers = [TYPES[shape.type], shape.keyBytes, shape.valueBytes, shape.maxEntries];
  // Behind the type comes the map's number.
  return numbers.every((number, i) => info.readUInt32LE(i === 0 ? 0 : 4 + 4 * i) === number);
}

/** The kernel's number of a map. */
export function readMapId(mapFd: number): number {
  return readInfo(mapFd, MAP_INFO_BYTES, 'look at a map').readUInt32LE(4);
}

/** The first bytes of what the kernel says of a map, program or link. */
export function readInfo(fd: number, bytes: number, what: string): Buffer {
  const info = allocateNative(bytes);
  const attributes = allocateNative(16);
  attributes.writeUInt32LE(fd, 0);
  attributes.writeUInt32LE(bytes, 4);
  attributes.writeBigUInt64LE(BigInt(ptr(info)), 8);
  requireBpf(BPF_OBJ_GET_INFO_BY_FD, attributes, what);
  return info;
}

/** The value of a key; undefined where there is none. The view is good until the next call. */
export function findElement(mapFd: number, key: Uint8Array, valueBytes: number): Buffer | undefined {
  keyPlace.set(key);
  const result = callElement(BPF_MAP_LOOKUP_ELEM, mapFd, valuePlace);
  if (result === -ENOENT) return undefined;
  if (result < 0) throw bpfUnavailable('look into a map', errnoName(-result));
  return valuePlace.subarray(0, valueBytes);
}

/** Writes an element, over one that is there. */
export function putElement(mapFd: number, key: Uint8Array, value: Uint8Array): void {
  keyPlace.set(key);
  valuePlace.set(value);
  const result = callElement(BPF_MAP_UPDATE_ELEM, mapFd, valuePlace);
  if (result < 0) throw bpfUnavailable('write into a map', errnoName(-result));
}

/** Takes an element away, if it is there. */
export function dropElement(mapFd: number, key: Uint8Array): void {
  keyPlace.set(key);
  const result = callElement(BPF_MAP_DELETE_ELEM, mapFd, undefined);
  if (result < 0 && result !== -ENOENT) throw bpfUnavailable('take something from a map', errnoName(-result));
}

/** The keys of a map that nobody changes meanwhile, at most `max`. */
export function listKeys(mapFd: number, keyBytes: number, max: number): readonly Buffer[] {
  const keys: Buffer[] = [];
  while (keys.length < max) {
    const last = keys.at(-1);
    if (last !== undefined) keyPlace.set(last);
    const result = callElement(BPF_MAP_GET_NEXT_KEY, mapFd, nextKeyPlace, last !== undefined);
    if (result === -ENOENT) break;
    if (result < 0) throw bpfUnavailable('go through a map', errnoName(-result));
    keys.push(Buffer.from(nextKeyPlace.subarray(0, keyBytes)));
  }
  return keys;
}

/** From now on only programs may write to a map, which ours do not. */
export function freezeMap(mapFd: number): void {
  const attributes = allocateNative(4);
  attributes.writeUInt32LE(mapFd, 0);
  requireBpf(BPF_MAP_FREEZE, attributes, 'freeze a map');
}

function callElement(command: number, mapFd: number, value: Buffer | undefined, hasKey = true): number {
  elementAttributes.fill(0);
  elementAttributes.writeUInt32LE(mapFd, 0);
  if (hasKey) elementAttributes.writeBigUInt64LE(BigInt(ptr(keyPlace)), 8);
  if (value !== undefined) elementAttributes.writeBigUInt64LE(BigInt(ptr(value)), 16);
  return bpf(command, elementAttributes);
}

import { afterAll, beforeAll, describe, expect, test } from 'bun:test';
import { readFileSync } from 'node:fs';
import { requireRoot } from '../../tests/kit/netns.ts';
import { readProgramId, readProgramTag } from './bpf-link.ts';
import { createMap, findElement, freezeMap, hasShape, listKeys, putElement } from './bpf-map.ts';
import { queryBtf } from './btf.ts';
import { Descriptors } from './descriptors.ts';
import { loadHook, STEERING_HOOKS } from './steering-hooks.ts';
import { STEERING_TYPES, type SteeringParts } from './steering-lines.ts';
import {
  encodeNetwork,
  encodeNumber,
  NETWORK_KEY_BYTES,
  recordsShape,
  STEERING_MAPS,
} from './steering-maps.ts';

let opened: Descriptors;
let parts: SteeringParts;

beforeAll(() => {
  requireRoot('programs in the kernel');
  opened = new Descriptors();
  const make = (shape: Parameters<typeof createMap>[0]): number => opened.add(createMap(shape, 'pk_test'));
  parts = {
    types: queryBtf(readFileSync('/sys/kernel/btf/vmlinux'), STEERING_TYPES),
    netnsCookie: 0xffff_ffff_ffff_ffffn,
    passesUdp: false,
    mark: 0xffff_ffff,
    ports: { outbound: 65_535, inbound: 32_768 },
    maps: {
      numbers: make(STEERING_MAPS.numbers),
      networks: make(STEERING_MAPS.networks),
      own: make(STEERING_MAPS.own),
      records: make(recordsShape(128)),
    },
  };
});
afterAll(() => opened[Symbol.dispose]());

describe('the kernel takes the program', () => {
  test.each(STEERING_HOOKS.map((hook) => [hook.name, hook] as const))('%s', (_, hook) => {
    const program = opened.add(loadHook(hook, parts));
    expect(readProgramId(program)).toBeGreaterThan(0);
    expect(readProgramTag(program)).toMatch(/^[0-9a-f]{16}$/);
  });

  test('under names that tell them apart, of at most 15 letters', () => {
    const names = STEERING_HOOKS.map(({ name }) => name);
    expect(new Set(names).size).toBe(names.length);
    expect(Math.max(...names.map((name) => `pk_${name}`.length))).toBeLessThan(16);
  });
});

describe('the maps', () => {
  test('have the shape that they were made with', () => {
    expect(hasShape(parts.maps.records, recordsShape(128))).toBe(true);
    expect(hasShape(parts.maps.records, recordsShape(129))).toBe(false);
    expect(hasShape(parts.maps.numbers, STEERING_MAPS.own)).toBe(false);
  });

  test('find the network that an address is in, by port as well', () => {
    const { networks } = parts.maps;
    for (const [address, prefixBits, port] of [
      ['10.0.0.0', 8, 53],
      ['10.1.0.0', 16, 123],
      ['fd00::', 8, 53],
    ] as const)
      putElement(networks, encodeNetwork({ kind: 'udp', address, prefixBits, port }), Uint8Array.of(1));
    const has = (address: string, port: number): boolean => {
      const prefixBits = address.includes(':') ? 128 : 32;
      return (
        findElement(networks, encodeNetwork({ kind: 'udp', address, prefixBits, port }), 1) !== undefined
      );
    };
    // The nested network is of another port: it must not hide the wider one.
    expect([has('10.1.2.3', 53), has('10.1.2.3', 123), has('10.2.2.3', 123)]).toEqual([true, true, false]);
    expect([has('fd12::1', 53), has('fe12::1', 53), has('11.0.0.1', 53)]).toEqual([true, false, false]);
    expect(listKeys(networks, NETWORK_KEY_BYTES, 100).length).toBe(3);
    expect(listKeys(networks, NETWORK_KEY_BYTES, 2).length).toBe(2);
  });

  test('take nothing once they are frozen', () => {
    const { numbers } = parts.maps;
    putElement(numbers, encodeNumber('user', 1), Uint8Array.of(1));
    freezeMap(numbers);
    expect(() => putElement(numbers, encodeNumber('user', 2), Uint8Array.of(1))).toThrow(/EPERM/);
    expect(findElement(numbers, encodeNumber('user', 1), 1)?.[0]).toBe(1);
    expect(findElement(numbers, encodeNumber('user', 2), 1)).toBeUndefined();
  });
});

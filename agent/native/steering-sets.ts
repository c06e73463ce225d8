import { readFileSync } from 'node:fs';
import { PicketError } from '../../shared/errors/errors.ts';
import { createMap, freezeMap, putElement } from './bpf-map.ts';
import { queryBtf, type BtfAnswer } from './btf.ts';
import type { Descriptors } from './descriptors.ts';
import { STEERING_TYPES, type SteeringParts } from './steering-lines.ts';
import {
  encodeNetwork,
  encodeNumber,
  STEERING_MAPS,
  type NUMBER_KINDS,
  type SteeringNetwork,
} from './steering-maps.ts';

/** What is steered and what is left alone: the settings of capture as the programs know them. */
export interface SteeringSettings {
  readonly ports: SteeringParts['ports'];
  readonly mark: number;
  readonly passesUdp: SteeringParts['passesUdp'];
  readonly numbers: readonly { readonly kind: keyof typeof NUMBER_KINDS; readonly number: number }[];
  readonly networks: readonly SteeringNetwork[];
}

/** The names of the maps for those who list them. */
export const MAP_NAMES = {
  numbers: 'pk_numbers',
  networks: 'pk_networks',
  own: 'pk_own',
  records: 'pk_records',
} as const;

/** A member of a set; what counts is that it is there. */
export const MEMBER = Uint8Array.of(1);

const TYPES_FILE = '/sys/kernel/btf/vmlinux';

/** Makes the sets of the settings, which nobody changes any more. Throws `unavailable`, reason `bpf`. */
export function fillSteeringSets(
  settings: SteeringSettings,
  opened: Descriptors,
): { readonly numbers: number; readonly networks: number } {
  const numbers = opened.add(createMap(STEERING_MAPS.numbers, MAP_NAMES.numbers));
  for (const { kind, number } of settings.numbers) putElement(numbers, encodeNumber(kind, number), MEMBER);
  const networks = opened.add(createMap(STEERING_MAPS.networks, MAP_NAMES.networks));
  for (const network of settings.networks) putElement(networks, encodeNetwork(network), MEMBER);
  freezeMap(numbers);
  freezeMap(networks);
  return { numbers, networks };
}

/** What the programs need of the kernel's types. Throws `unavailable`, reason `btf`. */
export function readSteeringTypes(): BtfAnswer {
  try {
    return queryBtf(readFileSync(TYPES_FILE), STEERING_TYPES);
  } catch (cause) {
    if (cause instanceof PicketError) throw cause;
    throw new PicketError('unavailable', 'btf', `Cannot read ${TYPES_FILE}`, { cause });
  }
}

import { createHash } from 'node:crypto';
import type { ByteReader } from './byte-reader.ts';
import { ByteWriter } from './byte-writer.ts';
import { invalidStructure, TPM_ALG } from './tpm2-algorithms.ts';

/** One bank of TPML_PCR_SELECTION: the TPM_ALG_ID of the bank's hash, and PCR numbers in ascending order. */
export interface PcrBankSelection {
  readonly hashId: number;
  readonly pcrs: readonly number[];
}

/** PCRs of a PC client: 0 to 23, in three bytes of bits. */
export const PCR_COUNT = 24;
const SELECT_BYTES = PCR_COUNT / 8;
const MAX_BANKS = 16;
const MAX_SELECT_BYTES = 4;

/** TPML_PCR_SELECTION with the PCRs of the SHA-256 bank alone. A number outside 0 to 23 is a `RangeError`. */
export function buildPcrSelection(pcrs: readonly number[]): Uint8Array {
  const select = new Uint8Array(SELECT_BYTES);
  for (const pcr of pcrs) {
    if (!Number.isInteger(pcr) || pcr < 0 || pcr >= PCR_COUNT) throw new RangeError(`There is no PCR ${pcr}`);
    const byte = pcr >> 3;
    select[byte] = (select[byte] ?? 0) | (1 << (pcr & 7));
  }
  return new ByteWriter().u32(1).u16(TPM_ALG.sha256).u8(SELECT_BYTES).bytes(select).toBytes();
}

/** Reads TPML_PCR_SELECTION (Part 2, 10.9.7). Banks of every hash are kept, so that a caller sees what else was selected. */
export function readPcrSelection(reader: ByteReader): readonly PcrBankSelection[] {
  const count = reader.u32();
  if (count > MAX_BANKS) throw invalidStructure(`PCR selection of ${count} banks`);
  return Array.from({ length: count }, () => {
    const hashId = reader.u16();
    const size = reader.u8();
    if (size > MAX_SELECT_BYTES) throw invalidStructure(`PCR selection of ${size} bytes`);
    return { hashId, pcrs: selectedBits(reader.bytes(size)) };
  });
}

/** Whether exactly these PCRs of the SHA-256 bank are selected, and no other bank's. */
export function selectsExactly(selection: readonly PcrBankSelection[], pcrs: readonly number[]): boolean {
  const used = selection.filter((bank) => bank.pcrs.length > 0);
  const wanted = [...new Set(pcrs)].sort((a, b) => a - b);
  return used.length === 1 && used[0]?.hashId === TPM_ALG.sha256 && used[0].pcrs.join() === wanted.join();
}

/** The pcrDigest of a quote: SHA-256 over the values in ascending order of their PCR (Part 1, 17.6). */
export function computePcrDigest(values: ReadonlyMap<number, Uint8Array>): Uint8Array {
  const hash = createHash('sha256');
  for (const [, value] of [...values].sort(([a], [b]) => a - b)) hash.update(value);
  return hash.digest();
}

function selectedBits(select: Uint8Array): readonly number[] {
  const pcrs: number[] = [];
  for (let pcr = 0; pcr < select.length * 8; pcr++)
    if (((select[pcr >> 3] ?? 0) >> (pcr & 7)) & 1) pcrs.push(pcr);
  return pcrs;
}

import { PicketError } from '../../../shared/errors/errors.ts';
import { FieldList, HpackDecoder } from '../../../shared/wire/hpack-decoder.ts';
import { encodeFields } from '../../../shared/wire/hpack-encoder.ts';
import { hexWords, outcomeOfRefusal, requireSame, requireThat, type FuzzTarget } from '../target.ts';
import { fromHex } from '../seeds.ts';

const LIMITS = { listBytes: 16_384, fields: 100 };

/** Header blocks, one after another for one decoder: an input is blocks with their lengths in two bytes. */
export const target: FuzzTarget = {
  // RFC 7541 C.4 and C.6.1; a size update, a literal that is never indexed, one with a forged name.
  seeds: fromHex(
    '0011828684418cf1e3c2e5f23a6ba0ab90f4ff000c828684be5886a8eb10649cbf',
    '00033fe1010036488264025885aec3771a4b6196d07abe941054d444a8200595040b8166e082a62d1bff6e919d29ad171863c78f0b97c8e9ae82ae43d3',
    '000120000c8210016101780f2e0131be',
    '00214017782d666f727761726465642d636c69656e742d63657274046576696c000282be',
  ),
  dictionary: hexWords('20', '3fe11f', '40', '0f', '10', '80', 'be', 'ffffff7f', '8286', '7f00', '00016101'),
  maxBytes: 4096,
  check(input) {
    const decoder = new HpackDecoder(LIMITS);
    const list = new FieldList();
    let blocks = 0;
    try {
      for (const block of blocksOf(input)) {
        const first = decoder.decode(block, { start: 0, end: block.length }, list);
        requireThat(list.length <= LIMITS.fields, 'more fields than the limit');
        requireWhole(list, first, block.length);
        if (!list.isTooLong) requireSameAgain(list);
        if (decoder.isTableless && !list.isTooLong) requireAlone(list, block);
        blocks++;
      }
    } catch (error) {
      if (!(error instanceof PicketError)) throw error;
      return `${Math.min(blocks, 3)} ${outcomeOfRefusal(error)}`;
    }
    return `${Math.min(blocks, 3)} ${Math.min(list.length, 5)} ${list.isTooLong} ${decoder.isTableless}`;
  },
};

function blocksOf(input: Buffer): readonly Buffer[] {
  const blocks: Buffer[] = [];
  for (let at = 0; at + 2 <= input.length;) {
    const end = Math.min(input.length, at + 2 + input.readUInt16BE(at));
    blocks.push(input.subarray(at + 2, end));
    at = end;
  }
  return blocks;
}

/** The fields lie one behind another, without gaps. */
function requireWhole(list: FieldList, first: number, end: number): void {
  let at = first;
  for (let i = 0; i < list.length; i++) {
    requireSame(list.starts[i], at, 'where a field begins');
    at = list.ends[i] ?? 0;
    requireThat(at > (list.starts[i] ?? 0) && at <= end, 'where a field ends');
  }
  if (!list.isTooLong) requireSame(at, end, 'where the last field ends');
}

/** What is written again is read as the same, by whoever has no table. */
function requireSameAgain(list: FieldList): void {
  const fields = list.names.map((name, i) => ({
    name,
    value: list.values[i] ?? '',
    isNeverIndexed: list.isNeverIndexed[i] ?? false,
  }));
  const block = encodeFields(fields);
  const again = new FieldList();
  new HpackDecoder({ listBytes: LIMITS.listBytes, fields: LIMITS.fields }).decode(
    block,
    { start: 0, end: block.length },
    again,
  );
  requireSame([again.names, again.values], [list.names, list.values], 'the fields read again');
}

/** Without a table each field means the same wherever it stands: cut out, it is read as it was. */
function requireAlone(list: FieldList, block: Buffer): void {
  for (let i = 0; i < Math.min(list.length, 20); i++) {
    const piece = Buffer.concat([Buffer.of(0x20), block.subarray(list.starts[i], list.ends[i])]);
    const alone = new FieldList();
    new HpackDecoder(LIMITS).decode(piece, { start: 0, end: piece.length }, alone);
    requireSame([alone.names, alone.values], [[list.names[i]], [list.values[i]]], 'a field cut out');
  }
}

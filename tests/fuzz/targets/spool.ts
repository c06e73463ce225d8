import { FrameBuffer } from '../../../agent/audit/frame-buffer.ts';
import {
  chainHash,
  decodeSegmentHead,
  encodeSegmentHead,
  findFrameEnd,
  scanSegment,
  SEGMENT_HEAD_BYTES,
} from '../../../agent/audit/spool-frame.ts';
import { FRAME_HEAD_BYTES, HASH_AT } from '../../../shared/protocol/audit-frame.ts';
import { hexWords, requireSame, requireThat, type FuzzTarget } from '../target.ts';

function segment(texts: readonly string[]): Buffer {
  const previousHash = new Uint8Array(32);
  const head = encodeSegmentHead({
    epoch: '0123456789abcdef0123456789abcdef',
    firstSequence: 5,
    previousHash,
  });
  const frames = new FrameBuffer();
  for (const text of texts)
    frames.add(5 + frames.count, frames.count === 0 ? previousHash : frames.lastHash, text);
  return Buffer.concat([head, frames.bytes]);
}

/** Segments of the spool after a crash: what counts as good is a chain without a gap, written by nobody else. */
export const target: FuzzTarget = {
  seeds: [segment(['{"a":1}', '{"b":2}', '{}']), segment([])],
  dictionary: hexWords(
    '504b53504f4f4c31',
    '00000007',
    '0000000000000005',
    '00004000',
    '00004001',
    'ffffffff',
    '0000000000000000',
  ),
  maxBytes: 4096,
  check(input) {
    const head = decodeSegmentHead(input);
    if (head === undefined) return 'no head';
    requireSame(
      encodeSegmentHead(head),
      Buffer.from(input.subarray(0, SEGMENT_HEAD_BYTES)),
      'a head written again',
    );
    const scan = scanSegment(input, head);
    requireThat(
      scan.goodBytes >= SEGMENT_HEAD_BYTES && scan.goodBytes <= input.length,
      'more good bytes than bytes',
    );
    let { previousHash } = head;
    let at = SEGMENT_HEAD_BYTES;
    for (let sequence = head.firstSequence; sequence <= scan.lastSequence; sequence++) {
      const end = findFrameEnd(input, at, sequence);
      requireThat(end !== undefined, `record ${sequence} is missing`);
      const textAt = at + FRAME_HEAD_BYTES;
      const hash = Buffer.from(input.subarray(at + HASH_AT, textAt));
      requireSame(chainHash(previousHash, input.subarray(textAt, end)), hash, 'the chain');
      previousHash = hash;
      at = end;
    }
    requireSame(at, scan.goodBytes, 'the end of what is good');
    return `${scan.lastSequence - head.firstSequence + 1} good, rest ${scan.goodBytes < input.length}`;
  },
};

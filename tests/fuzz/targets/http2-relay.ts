import { STRANGERS } from '../../../agent/proxy/connections/connections.ts';
import { FairShare } from '../../../agent/proxy/connections/fair-share.ts';
import { fakeTurns } from '../../../agent/proxy/fixtures/fake-turns.ts';
import { JudgeRig } from '../../../agent/proxy/fixtures/judge-rig.ts';
import { ScriptedStream, settled } from '../../../agent/proxy/fixtures/scripted-stream.ts';
import { Http2Relay } from '../../../agent/proxy/http2/relay.ts';
import { FieldList, HpackDecoder } from '../../../shared/wire/hpack-decoder.ts';
import { encodeFields } from '../../../shared/wire/hpack-encoder.ts';
import { isOwnedHeader } from '../../../shared/wire/http1-syntax.ts';
import {
  CLIENT_PREFACE,
  encodeFrame,
  encodeRstStream,
  encodeWindowUpdate,
  FLAG,
  FRAME,
} from '../../../shared/wire/http2-frame.ts';
import { encodeSettings } from '../../../shared/wire/http2-settings.ts';
import { fromHex } from '../seeds.ts';
import { hexWords, piecesOf, requireSame, requireThat, type FuzzTarget } from '../target.ts';

const OWN = 'URI=spiffe://example.org/web';
const END = FLAG.endHeaders | FLAG.endStream;
const ENCOUNTER = {
  direction: 'inbound',
  caller: { spiffeId: null, address: '10.0.0.1', port: 1, certificateNotAfterMs: 0 },
  target: { spiffeId: null, address: '10.0.0.2', port: 80 },
  process: null,
} as const;

const blockOf = (path: string, ...more: readonly (readonly [string, string])[]): Uint8Array =>
  encodeFields(
    [[':method', 'GET'], [':scheme', 'http'], [':path', path], [':authority', 'a'], ...more].map(
      ([name = '', value = '']) => ({ name, value }),
    ),
  );
const headers = (streamId: number, flags: number, payload: Uint8Array): Uint8Array =>
  encodeFrame(FRAME.headers, streamId, { flags, payload });
const [SETTINGS, ACK] = [
  encodeSettings(new Map([[4, 100]])),
  encodeFrame(FRAME.settings, 0, { flags: FLAG.ack }),
];

/** What a client sends behind its preface: the application gets whole frames, requests that were allowed, and nobody's word for who calls but ours. */
export const target: FuzzTarget = {
  seeds: [
    Buffer.concat([
      SETTINGS,
      ACK,
      headers(1, END, blockOf('/yes', ['x-forwarded-client-cert', 'evil'])),
      headers(3, END, blockOf('/no')),
      encodeWindowUpdate(0, 9),
      headers(5, FLAG.endHeaders, blockOf('/yes')),
      encodeFrame(FRAME.data, 5, { payload: Buffer.from('body') }),
      headers(
        5,
        END,
        encodeFields([
          { name: 'x-forwarded-client-cert', value: 'evil' },
          { name: 'x', value: 'y' },
        ]),
      ),
      encodeRstStream(3, 'cancel'),
    ]),
    Buffer.concat([
      SETTINGS,
      headers(1, FLAG.endStream, blockOf('/yes').subarray(0, 9)),
      encodeFrame(FRAME.continuation, 1, { flags: FLAG.endHeaders, payload: blockOf('/yes').subarray(9) }),
      headers(3, FLAG.endHeaders, blockOf('/no')),
      encodeFrame(FRAME.data, 3, { flags: FLAG.endStream, payload: Buffer.alloc(20) }),
      encodeFrame(FRAME.ping, 0, { payload: Buffer.alloc(8) }),
    ]),
    // A table: :path /yes is kept, and referred to; so is a forged name.
    Buffer.concat([
      SETTINGS,
      headers(1, END, fromHex('828644042f796573410161')[0] ?? Buffer.alloc(0)),
      headers(3, END, fromHex('8286bfbe')[0] ?? Buffer.alloc(0)),
      ACK,
      headers(5, END, Buffer.concat([Buffer.of(0x20), blockOf('/yes')])),
    ]),
  ],
  dictionary: hexWords(
    '0000000400000000',
    '000000010500000003',
    '000004030000000001',
    '00000009040000000100',
    '20',
    '40',
    'be',
    '2f6e6f',
    Buffer.from('x-forwarded-client-cert').toString('hex'),
    Buffer.from('x_forwarded_client_cert').toString('hex'),
  ),
  maxBytes: 2048,
  async check(input) {
    const whole = await relayed([input]);
    const pieces = await relayed(piecesOf(input));
    requireSame(pieces.isEnded, whole.isEnded, 'whether the connection goes on, in pieces');
    // What came before an error may have gone already.
    if (!whole.isEnded)
      requireSame(pieces.toApplication, whole.toApplication, 'what the application gets in pieces');
    const requests = requireAllowed(Buffer.from(whole.toApplication, 'latin1'));
    requireAllowed(Buffer.from(pieces.toApplication, 'latin1'));
    return `${requests} ${whole.reasons}`;
  },
};

async function relayed(
  pieces: readonly Buffer[],
): Promise<{ readonly toApplication: string; readonly reasons: string; readonly isEnded: boolean }> {
  const [judge, client, application] = [new JudgeRig(), new ScriptedStream(), new ScriptedStream()];
  judge.allow = ({ http }) => (http?.path.startsWith('/no') === true ? 'policy_deny' : 'policy_allow');
  const relay = new Http2Relay({
    client,
    openApplication: () => Promise.resolve(application),
    judge: (http) => judge.judge.judgeAhead(ENCOUNTER, http),
    commit: () => judge.judge.commit(),
    refuse: (refusal) => judge.judge.refuse(ENCOUNTER, refusal),
    clientCertBlock: encodeFields([{ name: 'x-forwarded-client-cert', value: OWN }]),
    turns: fakeTurns(judge.clock),
    party: STRANGERS,
    heads: new FairShare(Infinity),
    clock: judge.clock,
    endsAtMs: Infinity,
    onDone: () => undefined,
  });
  relay.start({ first: CLIENT_PREFACE });
  for (const piece of pieces) {
    client.says(piece.toString('latin1'));
    await settled();
  }
  for (let turns = 0; turns < 4; turns++) {
    judge.clock.advance(0);
    await settled();
  }
  const reasons = judge.records.map(({ reason }) => reason).slice(0, 6);
  return { toApplication: application.text, reasons: reasons.join(), isEnded: client.isEnded };
}

/** Returns how many requests there are. */
function requireAllowed(bytes: Buffer): number {
  if (bytes.length === 0) return 0;
  requireThat(
    bytes.subarray(0, CLIENT_PREFACE.length).equals(CLIENT_PREFACE),
    'it is greeted with the preface',
  );
  const decoder = new HpackDecoder({ listBytes: 1 << 20, fields: 1000 });
  const list = new FieldList();
  let block: Buffer[] = [];
  let requests = 0;
  let last = 0;
  for (let at = CLIENT_PREFACE.length; at + 9 <= bytes.length;) {
    const end = at + 9 + bytes.readUIntBE(at, 3);
    const [type, flags, streamId] = [bytes[at + 3] ?? 0, bytes[at + 4] ?? 0, bytes.readUInt32BE(at + 5)];
    const isHead = type === FRAME.headers || type === FRAME.continuation;
    requireThat(block.length === 0 || type === FRAME.continuation, 'a header block is interrupted');
    if (isHead) {
      requireThat(end <= bytes.length, 'a header block is cut off');
      block.push(bytes.subarray(at + 9, end));
    }
    if (isHead && (flags & FLAG.endHeaders) !== 0) {
      const fields = Buffer.concat(block);
      block = [];
      decoder.decode(fields, { start: 0, end: fields.length }, list);
      const isRequest = streamId > last;
      requireFields(list, isRequest);
      if (isRequest) requests++;
      last = Math.max(last, streamId);
    }
    at = end;
  }
  requireThat(block.length === 0, 'a header block does not end');
  return requests;
}

function requireFields(list: FieldList, isRequest: boolean): void {
  const owned = list.names.flatMap((name, i) => (isOwnedHeader(name) ? [list.values[i]] : []));
  requireSame(owned, isRequest ? [OWN] : [], 'who calls');
  const paths = list.names.flatMap((name, i) => (name === ':path' ? [list.values[i]] : []));
  requireSame(paths.length, isRequest ? 1 : 0, 'how many paths there are');
  requireThat(!(paths[0] ?? '').startsWith('/no'), 'a refused request is passed on');
}

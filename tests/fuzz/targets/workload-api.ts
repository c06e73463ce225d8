import { create, fromBinary, toBinary, type DescMessage } from '@bufbuild/protobuf';
import {
  JWTBundlesRequestSchema,
  JWTSVIDRequestSchema,
  SpiffeWorkloadAPI,
  ValidateJWTSVIDRequestSchema,
  X509BundlesRequestSchema,
  X509SVIDRequestSchema,
} from '../../../agent/workload-api/generated/workloadapi_pb.ts';
import {
  ServerReflectionRequestSchema,
  ServerReflectionResponseSchema,
} from '../../../agent/workload-api/generated/grpc/reflection/v1/reflection_pb.ts';
import { createReflection } from '../../../agent/workload-api/reflection.ts';
import { hexWords, requireSame, requireThat, words, type FuzzTarget } from '../target.ts';

const REQUESTS = [
  X509SVIDRequestSchema,
  X509BundlesRequestSchema,
  JWTSVIDRequestSchema,
  JWTBundlesRequestSchema,
  ValidateJWTSVIDRequestSchema,
];
/** All files of the services are some KiB. */
const MAX_ANSWER_BYTES = 256 * 1024;
const reflect = createReflection([SpiffeWorkloadAPI]);

const encode = <T extends DescMessage>(schema: T, fields: Parameters<typeof create<T>>[1]): Uint8Array =>
  toBinary(schema, create(schema, fields));

/** Requests of the Workload API and questions of reflection, as protobuf: what is read can be written and read again, and every question has an answer. */
export const target: FuzzTarget = {
  seeds: [
    new Uint8Array(),
    encode(JWTSVIDRequestSchema, { audience: ['a', 'b'], spiffeId: 'spiffe://example.org/a' }),
    encode(ValidateJWTSVIDRequestSchema, { audience: 'a', svid: 'e30.e30.AA' }),
    encode(ServerReflectionRequestSchema, { messageRequest: { case: 'listServices', value: '' } }),
    encode(ServerReflectionRequestSchema, {
      host: 'h',
      messageRequest: { case: 'fileContainingSymbol', value: 'SpiffeWorkloadAPI.FetchX509SVID' },
    }),
    encode(ServerReflectionRequestSchema, {
      messageRequest: { case: 'fileByFilename', value: 'workloadapi.proto' },
    }),
  ],
  dictionary: [
    ...hexWords(
      '0a',
      '12',
      '1a',
      '2a02',
      '3a00',
      '0b',
      '0c',
      '7f',
      '80808080808080808001',
      'ffffffff0f',
      'c0c0',
      'eda080',
    ),
    ...words(
      'SpiffeWorkloadAPI',
      'X509SVIDRequest',
      'google.protobuf.Struct',
      '.',
      '__proto__',
      'constructor',
    ),
  ],
  maxBytes: 4096,
  async check(input) {
    const ways = REQUESTS.map((schema) => wayOf(schema, input));
    const question = read(ServerReflectionRequestSchema, input);
    if (question === undefined) return [...ways, 'no question'].join(' ');
    // Only its own text comes back.
    const [answer] = await Array.fromAsync(reflect(only(question)));
    requireThat(answer?.messageResponse.case !== undefined, 'a question without an answer');
    const bytes = toBinary(ServerReflectionResponseSchema, answer);
    requireThat(bytes.length < MAX_ANSWER_BYTES + 3 * input.length, 'an answer that is too long');
    return [...ways, question.messageRequest.case, answer.messageResponse.case].join(' ');
  },
};

function wayOf(schema: DescMessage, input: Buffer): string {
  const message = read(schema, input);
  if (message === undefined) return 'refused';
  requireSame(read(schema, toBinary(schema, message)), message, `${schema.name} read again`);
  return 'read';
}

/** What is no message makes the library throw; the endpoint answers that with InvalidArgument. */
function read<T extends DescMessage>(
  schema: T,
  bytes: Uint8Array,
): ReturnType<typeof fromBinary<T>> | undefined {
  try {
    return fromBinary(schema, bytes);
  } catch (error) {
    if (error instanceof Error) return undefined;
    throw error;
  }
}

async function* only<T>(value: T): AsyncGenerator<T> {
  yield value;
}

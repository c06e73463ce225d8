import { create, createRegistry, toBinary, type DescFile, type DescService } from '@bufbuild/protobuf';
import { FileDescriptorProtoSchema } from '@bufbuild/protobuf/wkt';
import { Code } from '@connectrpc/connect';
import {
  ServerReflectionResponseSchema,
  type ServerReflectionRequest,
  type ServerReflectionResponse,
} from './generated/grpc/reflection/v1/reflection_pb.ts';

type Answer = ServerReflectionResponse['messageResponse'];

/** Answers questions of gRPC Server Reflection about `services` (SPIFFE_Workload_Endpoint.md 7: an endpoint should). */
export function createReflection(services: readonly DescService[]) {
  const files = withDependencies(services.map((service) => service.file));
  return async function* serverReflectionInfo(
    requests: AsyncIterable<ServerReflectionRequest>,
  ): AsyncGenerator<ServerReflectionResponse> {
    for await (const originalRequest of requests)
      yield create(ServerReflectionResponseSchema, {
        validHost: originalRequest.host,
        originalRequest,
        messageResponse: answer(originalRequest.messageRequest, services, files),
      });
  };
}

function answer(
  question: ServerReflectionRequest['messageRequest'],
  services: readonly DescService[],
  files: readonly DescFile[],
): Answer {
  switch (question.case) {
    case 'listServices':
      return {
        case: 'listServicesResponse',
        value: {
          $typeName: 'grpc.reflection.v1.ListServiceResponse',
          service: services.map(({ typeName: name }) => ({
            $typeName: 'grpc.reflection.v1.ServiceResponse',
            name,
          })),
        },
      };
    case 'fileByFilename':
      return describe(files.find((file) => file.proto.name === question.value));
    case 'fileContainingSymbol':
      return describe(findFileOf(question.value, files));
    case 'fileContainingExtension':
    case 'allExtensionNumbersOfType':
      // Nothing here has extensions.
      return describe(undefined);
    case undefined:
      return failure(Code.InvalidArgument, 'The request asks nothing');
  }
}

/** The file with everything that it imports: what it takes to understand it. */
function describe(file: DescFile | undefined): Answer {
  if (file === undefined) return failure(Code.NotFound, 'There is no such file, symbol or extension');
  return {
    case: 'fileDescriptorResponse',
    value: {
      $typeName: 'grpc.reflection.v1.FileDescriptorResponse',
      fileDescriptorProto: withDependencies([file]).map((each) =>
        toBinary(FileDescriptorProtoSchema, each.proto),
      ),
    },
  };
}

function failure(errorCode: Code, errorMessage: string): Answer {
  return {
    case: 'errorResponse',
    value: { $typeName: 'grpc.reflection.v1.ErrorResponse', errorCode, errorMessage },
  };
}

/** A symbol is a message, an enum, a service, or a method of one. */
function findFileOf(symbol: string, files: readonly DescFile[]): DescFile | undefined {
  const registry = createRegistry(...files);
  const direct = registry.get(symbol);
  if (direct !== undefined) return direct.file;
  const dot = symbol.lastIndexOf('.');
  const service = registry.getService(symbol.slice(0, Math.max(dot, 0)));
  return service?.methods.some(({ name }) => name === symbol.slice(dot + 1)) === true
    ? service.file
    : undefined;
}

function withDependencies(files: readonly DescFile[]): readonly DescFile[] {
  const all = new Set<DescFile>();
  const add = (file: DescFile): void => {
    if (all.has(file)) return;
    all.add(file);
    for (const dependency of file.dependencies) add(dependency);
  };
  for (const file of files) add(file);
  return [...all];
}

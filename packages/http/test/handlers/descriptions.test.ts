import { assert, it } from "@effect/vitest"
import { document } from "../../src/api/openapi.ts"

interface Described {
  readonly $ref?: string
  readonly description?: string
  readonly properties?: Readonly<Record<string, Described>>
  readonly anyOf?: ReadonlyArray<Described>
  readonly items?: Described
  readonly contentSchema?: Described
}

const isDescribed = (schema: Described): boolean =>
  schema.$ref !== undefined || schema.description !== undefined || (schema.anyOf ?? []).some(isDescribed)

/** The paths of the fields that have no description. */
const undescribed = (at: string, schema: Described): ReadonlyArray<string> => [
  ...Object.entries(schema.properties ?? {}).flatMap(([name, field]) => [
    ...(isDescribed(field) ? [] : [`${at}.${name}`]),
    ...undescribed(`${at}.${name}`, field)
  ]),
  ...[...(schema.anyOf ?? []), schema.items, schema.contentSchema].flatMap((inner) =>
    inner === undefined ? [] : undescribed(at, inner)
  )
]

interface Body {
  readonly content?: Readonly<Record<string, { readonly schema: Described }>>
}

interface Operation {
  readonly operationId: string
  readonly summary?: string
  readonly description?: string
  readonly parameters: ReadonlyArray<{
    readonly name: string
    readonly description?: string
    readonly schema: Described
  }>
  readonly requestBody?: Body
  readonly responses: Readonly<Record<string, Body>>
}

const operations = Object.values(document.paths).flatMap(
  (methods) => Object.values(methods) as unknown as Array<Operation>
)

it("every operation of openapi.json has a summary and a description", () => {
  assert.deepStrictEqual(
    operations.filter(({ description, summary }) => !description || !summary).map(({ operationId }) => operationId),
    []
  )
})

it("every parameter and every field of openapi.json has a description", () => {
  const { schemas } = (document as unknown as { readonly components: { readonly schemas: Record<string, Described> } })
    .components
  const missing = [
    ...Object.entries(schemas).flatMap(([name, schema]) => undescribed(name, schema)),
    ...operations.flatMap(({ operationId, parameters, requestBody, responses }) => [
      ...parameters
        .filter(({ description, schema }) => description === undefined && !isDescribed(schema))
        .map(({ name }) => `${operationId}?${name}`),
      ...[requestBody ?? {}, ...Object.values(responses)].flatMap(({ content = {} }) =>
        Object.values(content).flatMap(({ schema }) => undescribed(operationId, schema))
      )
    ])
  ]
  assert.deepStrictEqual(missing, [])
})

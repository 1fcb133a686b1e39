/** Replaces NUL in the parameters of statements by U+FFFD, because Postgres refuses NUL in text. */
import { type KyselyPlugin, OperationNodeTransformer, type PrimitiveValueListNode, type ValueNode } from "kysely"

const clean = <A>(value: A): A =>
  typeof value === "string" && value.includes("\0") ? (value.replaceAll("\0", "\uFFFD") as A) : value

class Cleaner extends OperationNodeTransformer {
  protected override transformValue(node: ValueNode): ValueNode {
    return { ...node, value: clean(node.value) }
  }

  protected override transformPrimitiveValueList(node: PrimitiveValueListNode): PrimitiveValueListNode {
    return { ...node, values: node.values.map(clean) }
  }
}

const cleaner = new Cleaner()

export const stripNul: KyselyPlugin = {
  transformQuery: ({ node, queryId }) => cleaner.transformNode(node, queryId),
  transformResult: ({ result }) => Promise.resolve(result)
}

output "cluster_arn" {
  description = "The cluster."
  value       = aws_ecs_cluster.this.arn
}

output "namespace" {
  description = "The domain of services for each other."
  value       = aws_service_discovery_private_dns_namespace.this.name
}

output "namespace_id" {
  description = "The same, as Cloud Map names it."
  value       = aws_service_discovery_private_dns_namespace.this.id
}

output "load_balancer" {
  description = "The UI's load balancer as CloudWatch names it."
  value       = aws_lb.ui.arn_suffix
}

output "ui_address" {
  description = "What the UI's names are to point to."
  value       = aws_lb.ui.dns_name
}

output "run_task_definition" {
  description = "What runs are started from."
  value       = aws_ecs_task_definition.this["run"].arn
}

output "run_group" {
  description = "The security group of runs."
  value       = aws_security_group.this["run"].id
}

output "run_policy" {
  description = "What runs and the code location may do."
  value       = aws_iam_role_policy.this["run"].policy
}

output "services" {
  description = "Names of the services."
  value       = sort([for service in aws_ecs_service.this : service.name])
}

output "lake_clients" {
  description = "Security groups of who may ask a query engine."
  value       = { for name in ["ui", "code", "run"] : name => aws_security_group.this[name].id }
}

output "execution_role_arn" {
  description = "The role that starts containers."
  value       = aws_iam_role.this["execution"].arn
}

output "database_secret" {
  description = "The secret with the database's password."
  value       = local.database_secret_arn
}

output "services" {
  description = "Names of the services."
  value       = sort([for service in aws_ecs_service.node : service.name])
}

output "address" {
  description = "Where whoever may ask finds it."
  value       = local.environment.TRINO_DISCOVERY_URI
}

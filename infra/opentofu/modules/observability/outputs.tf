output "log_groups" {
  description = "Log groups, by what writes to them."
  value       = { for name, group in aws_cloudwatch_log_group.this : name => { name = group.name, arn = group.arn } }
}

output "kms_key_arn" {
  description = "The key of logs, alarms and Dagster's database."
  value       = aws_kms_key.operations.arn
}

output "alarms_topic" {
  description = "Where alarms are told."
  value       = aws_sns_topic.alarms.arn
}
